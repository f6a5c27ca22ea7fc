"""Thresholds and windows: those that are shipped, with those of a user's file over them.

A table of TOML becomes flat: ``[slo.ttft] threshold`` is ``slo.ttft.threshold``. The last word of a
key says what it may be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

from llmwatch.errors import ConfigError

SHIPPED: Final = files("llmwatch") / "dashboards" / "values.toml"

Values = Mapping[str, Any]
"""Every value by its flat key; ``burn`` is a tuple of `Burn`."""


class Burn(NamedTuple):
    """Two windows, and how fast a budget may burn in both of them."""

    severity: str
    long: str
    short: str
    rate: float


class Kind(NamedTuple):
    """What a value may be."""

    fits: Callable[[Any], bool]
    remedy: str


def seconds(duration: str) -> float:
    """A duration as Prometheus writes it, in seconds."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    return float(sum(int(many) * units[unit] for many, unit in parts))


_DURATION = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")


def _number(value: Any, low: float, high: float = 1e15) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_duration(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and bool(_DURATION.fullmatch(value))


def _is_pattern(value: Any) -> bool:
    """Whether Prometheus takes it, which knows neither looking around nor references back."""
    try:
        fits = isinstance(value, str) and bool(value) and bool(re.compile(value))
    except re.error:
        return False
    return fits and not re.search(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]", value)


def _texts(pattern: str) -> Callable[[Any], bool]:
    fits = re.compile(pattern)
    return lambda value: (
        isinstance(value, list)
        and all(isinstance(each, str) and bool(fits.fullmatch(each)) for each in value)
    )


_WINDOW = Kind(lambda each: _is_duration(each) and seconds(each) > 0, 'give one like "5m"')
_HOLD = Kind(_is_duration, 'give a duration like "5m", or "0s"')
_SHARE = Kind(lambda each: _number(each, 0, 1), "give a number from 0 to 1")
_AMOUNT = Kind(lambda each: _number(each, 0), "give a number, 0 or more")
_POSITIVE = Kind(lambda each: _number(each, 1e-9), "give a number above 0")
_LABELS = Kind(_texts(r"[a-zA-Z_][a-zA-Z0-9_]*"), 'give a list of labels like ["job"]')
_SOME_LABELS = Kind(lambda each: bool(each) and _LABELS.fits(each), _LABELS.remedy)
_WORDS = Kind(_texts(r"[\w.:-]+"), 'give a list of words like ["one", "two"]')
_PATTERNS = Kind(
    lambda each: isinstance(each, list) and all(map(_is_pattern, each)),
    'give a list of regular expressions like ["o3.*"]',
)
_WORD = Kind(
    lambda each: isinstance(each, str) and bool(re.fullmatch(r"[\w.:-]+", each)), "give a word"
)

KINDS: Final[dict[str, Kind]] = {
    "semconv": Kind(lambda each: each in ("1.41", "genai-0.1"), 'give "1.41" or "genai-0.1"'),
    "runbooks": Kind(
        lambda each: isinstance(each, str) and (not each or "://" in each), "give a URL, or none"
    ),
    **dict.fromkeys(("off", "ignored"), _WORDS),
    "reasons": Kind(lambda each: bool(each) and _WORDS.fits(each), _WORDS.remedy),
    "models": _PATTERNS,
    "model": _LABELS,
    **dict.fromkeys(("service", "gpu"), _SOME_LABELS),
    **dict.fromkeys(("page", "ticket"), _WORD),
    "severity": Kind(lambda each: each in ("page", "ticket"), 'give "page" or "ticket"'),
    "objective": Kind(
        lambda each: _number(each, 0, 1) and 0 < each < 1, "give a number between 0 and 1"
    ),
    **dict.fromkeys(("interval", "window", "baseline", "lookback", "long", "short"), _WINDOW),
    "for": _HOLD,
    "share": _SHARE,
    **dict.fromkeys(("least", "corrected", "dropped"), _AMOUNT),
    **dict.fromkeys(("threshold", "budget", "rate"), _POSITIVE),
}
"""By the last word of a key: ``corrected_window`` is a window, too."""


def load(path: Path | None = None) -> Values:
    """The values that are shipped, with those of a file over them.

    Raises:
        ConfigError: If the file cannot be read, or a key or value in it cannot be used.
    """
    found = dict(_flat(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))))
    if path is not None:
        given = dict(_flat(_read(path)))
        for key, value in given.items():
            _check(key, value, set(found), str(path))
        found |= given
    found["burn"] = tuple(Burn(**each) for each in found["burn"])
    _agree(found, str(path or SHIPPED))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the values {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the values {path} are no TOML: {error}") from error


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check(key: str, value: Any, known: set[str], where: str) -> None:
    if key not in known:
        near = get_close_matches(key, known, 1, 0.4)
        hint = f"Is it {near[0]!r}?" if near else f"There are {', '.join(sorted(known))}."
        raise ConfigError(f"{where} has {key!r}, which is no value of the rules. {hint}")
    if key == "burn":
        _check_burns(value, where)
    else:
        _check_kind(key, value, where)


def _check_burns(rows: Any, where: str) -> None:
    if not isinstance(rows, list) or not rows or not all(isinstance(each, dict) for each in rows):
        raise ConfigError(f"{where}: give at least one table [[burn]].")
    for index, row in enumerate(rows):
        if set(row) != set(Burn._fields):
            raise ConfigError(
                f"{where}: [[burn]] {index} needs {', '.join(Burn._fields)}, no more."
            )
        for key, value in row.items():
            _check_kind(f"burn[{index}].{key}", value, where)


def _check_kind(key: str, value: Any, where: str) -> None:
    kind = kind_of(key)
    if not kind.fits(value):
        raise ConfigError(f"{where}: {key} = {value!r} cannot be used: {kind.remedy}.")


def kind_of(key: str) -> Kind:
    """What the value of a key may be."""
    return KINDS[re.split(r"[._]", key)[-1]]


def _agree(values: Values, where: str) -> None:
    """Check what values must be to each other."""
    longer = [
        *((f"burn[{i}].long", b.long, "its short", b.short) for i, b in enumerate(values["burn"])),
        *(
            (one, values[one], other, values[other])
            for one, other in (
                ("throughput.baseline", "throughput.window"),
                ("cost.window", "cost.burn_window"),
                ("no_data.lookback", "no_data.for"),
            )
        ),
    ]
    for one, long, other, short in longer:
        if seconds(long) <= seconds(short):
            raise ConfigError(f"{where}: {one} = {long!r} must be longer than {other}, {short!r}.")
    page, ticket = values["severity.page"], values["severity.ticket"]
    if page == ticket:
        raise ConfigError(
            f"{where}: severity.page and severity.ticket are both {page!r}, so budgets that burn "
            "fast and slowly would be one alert: give two words."
        )
    fastest = max(each.rate for each in values["burn"])
    for key, objective in values.items():
        if key.endswith(".objective") and fastest * (1 - objective) >= 1:
            raise ConfigError(
                f"{where}: {key} = {objective} leaves a budget that cannot burn {fastest:g} times "
                f"as fast as it may: choose it above {1 - 1 / fastest:.3f}, or a lower burn rate."
            )


def by(values: Values, *kinds: str) -> str:
    """The labels that ``service``, ``model`` or ``gpu`` are told apart by, for an aggregation."""
    return ", ".join(label for kind in kinds for label in values[f"labels.{kind}"])


def who(values: Values, *kinds: str) -> str:
    """The same in the text of an alert."""
    labels = (label for kind in kinds for label in values[f"labels.{kind}"])
    return " ".join(f"{{{{ $labels.{label} }}}}" for label in labels)


def meanings() -> Iterator[tuple[str, Any, str]]:
    """Key, default and meaning of every value, as the file that is shipped has them."""
    prefix, comment = "", []
    defaults = dict(_flat(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))))
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if line.startswith("[["):
            prefix = "burn."
        elif line.startswith("["):
            prefix = line.strip("[] ") + "."
        elif line.startswith("#"):
            comment.append(line.lstrip("# "))
            continue
        elif (key := prefix + line.partition(" = ")[0]) in defaults:
            yield key, defaults[key], " ".join(comment)
        comment = []
