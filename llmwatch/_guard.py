"""The one place where llmwatch swallows its own failures.

``with Guard("signals.finish"): …`` runs our code inside the user's call. What goes wrong there is
logged at most once a minute per cause, counted, and steps aside. `KeyboardInterrupt` and other
non-`Exception` errors always pass: they are never ours.
"""

from __future__ import annotations

import logging
import os
from time import monotonic
from types import TracebackType

_log = logging.getLogger("llmwatch")

LOG_EVERY = 60.0
"""Seconds between two log lines about one cause."""

strict = os.environ.get("LLMWATCH_STRICT") == "1"
"""Raise instead of swallowing: set in llmwatch's own tests."""

_counts: dict[str, int] = {}
_logged: dict[str, float] = {}


class Guard:
    """A reusable, stateless context manager that keeps our failures from the user.

    Args:
        cause: Dotted name of the place, for example ``"openai.read_response"``; it is the value
            of ``llmwatch.cause`` on the metric ``llmwatch.internal.errors``.

    Cost: about 0.15 µs when nothing fails.
    """

    __slots__ = ("cause",)

    def __init__(self, cause: str) -> None:
        self.cause = cause

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is None:
            return False
        return isinstance(error, Exception) and note(self.cause, error)


class Foreign:
    """Swallow what somebody else's code raises when we, not the user, called it.

    Nothing is logged or counted: the user meets the same error where they make the same call.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, Exception)


def note(cause: str, error: Exception) -> bool:
    """Count and perhaps log a failure of ours; True when it is to be swallowed."""
    _counts[cause] = _counts.get(cause, 0) + 1
    if strict:
        return False
    now = monotonic()
    if now - _logged.get(cause, -LOG_EVERY) >= LOG_EVERY:
        _logged[cause] = now
        _log.warning(
            "llmwatch failed in %s (%s); your call is not affected, its telemetry may be "
            "incomplete",
            cause,
            type(error).__name__,
            exc_info=error if _log.isEnabledFor(logging.DEBUG) else None,
        )
    return True


def error_counts() -> dict[str, int]:
    """How many failures there were so far, by cause."""
    return dict(_counts)


def reset() -> None:
    """Forget counts and log times (for tests, and in a forked child)."""
    _counts.clear()
    _logged.clear()
