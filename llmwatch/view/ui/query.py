"""What a page asks for, as text in a URL, becomes a `Filter`."""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns

from llmwatch.view.records import Filter

MOST_ROWS = 2000
"""Requests in one answer at most."""


LARGEST = 9e9
"""Seconds of which sqlite still holds the nanoseconds; that is in the year 2255."""


class QueryError(ValueError):
    """A parameter that cannot be used."""


def filter_of(query: Mapping[str, str]) -> Filter:
    """The filter that the parameters of a URL describe.

    Args:
        query: ``last`` (seconds up to now), or ``since`` and ``until`` (Unix seconds); ``service``,
            ``operation``, ``model``, ``route``, ``text``; ``errors=1``.

    Raises:
        QueryError: If a time is no number.
    """
    last = _number(query, "last")
    since, until = _number(query, "since"), _number(query, "until")
    return Filter(
        since=_nanoseconds(since) if last is None else time_ns() - round(last * 1e9),
        until=_nanoseconds(until) if last is None else None,
        service=query.get("service") or None,
        operation=query.get("operation") or None,
        model=query.get("model") or None,
        route=query.get("route") or None,
        errors=query.get("errors") == "1",
        text=query.get("text", ""),
    )


def limit_of(query: Mapping[str, str], default: int = 200) -> int:
    """How many rows, from 1 to `MOST_ROWS`.

    Raises:
        QueryError: If it is no number.
    """
    limit = _number(query, "limit")
    return default if limit is None else min(max(round(limit), 1), MOST_ROWS)


def _number(query: Mapping[str, str], name: str) -> float | None:
    if not (text := query.get(name)):
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < LARGEST:  # nor NaN
        raise QueryError(f"{name}={text!r} cannot be used: give a number.")
    return number


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)
