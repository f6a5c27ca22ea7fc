"""Which traces are worth keeping: the rules of the setting ``keep``.

A rule looks at one span of a trace; one that holds keeps the whole trace. The share keeps traces by
their id, so that every process that is asked for the same share keeps the same traces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from llmwatch.errors import ConfigError

MOST_SHARE = 1 << 64
"""Trace ids are told apart by this many values of their lower half, as the SDK's sampler does."""

_RULE = re.compile(r"(slow|ttft|cost)\s*>\s*([0-9.]+)\s*([a-z]*)")
SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
"""Units that times may be given in."""

_EXAMPLE = "errors, flagged, slow>5s, ttft>2s, cost>0.1 and a share of the others such as 5%"


@dataclass(frozen=True, repr=False)
class Keep:
    """Rules that were understood; traces that none of them keeps are not sent.

    Its repr is the text that they were given as.
    """

    errors: bool = False
    """Something in it failed."""
    flagged: bool = False
    """Something in it has the attribute ``llmwatch.flagged``."""
    slow: float | None = None
    """One operation took longer, in seconds."""
    ttft: float | None = None
    """The first chunk or token of one operation took longer, in seconds."""
    cost: float | None = None
    """All its operations together cost more, in US dollars."""
    share: float = 0.0
    """Share of all traces that are kept whatever they are, 0 to 1."""
    text: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return repr(self.text)

    def holds_share(self, trace_id: int) -> bool:
        """Whether a trace is one of the share."""
        return (trace_id & (MOST_SHARE - 1)) < round(self.share * MOST_SHARE)


def parse(text: str) -> Keep:
    """Understand rules with commas between them, such as ``errors,slow>5s,5%``.

    Raises:
        ConfigError: If a part is no rule, or one is given twice.
    """
    found: dict[str, bool | float] = {}
    for part in text.lower().split(","):
        if not (part := part.strip()):
            continue
        name, value = _rule(part)
        if name in found:
            raise ConfigError(f"it has {name!r} twice: give each rule once.")
        found[name] = value
    if not found:
        raise ConfigError(f"it has no rule: give some of {_EXAMPLE}.")
    return Keep(**found, text=text)  # type: ignore[arg-type]


def _rule(part: str) -> tuple[str, bool | float]:
    try:
        if part in ("errors", "flagged"):
            return part, True
        if part.endswith("%"):
            return "share", _share(part)
        if (match := _RULE.fullmatch(part)) is not None:
            name, number, unit = match.groups()
            if name == "cost" and unit in ("", "usd"):
                return name, float(number)
            if name != "cost":
                return name, float(number) * SECONDS[unit]
    except (ValueError, KeyError):
        pass
    raise ConfigError(f"{part!r} is no rule: give some of {_EXAMPLE}.")


def _share(part: str) -> float:
    share = float(part.removesuffix("%")) / 100
    if not 0 <= share <= 1:
        raise ValueError
    return share
