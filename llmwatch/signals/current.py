"""A handle on the call in progress, for what only the user's own code knows about it.

Its methods run inside the user's calls, so none of them raises: a value that cannot be used is
ignored, with one log line a process. Values are not logged, they may hold content.
"""

from __future__ import annotations

import logging
from operator import index
from time import perf_counter
from typing import SupportsIndex

from llmwatch.measure.record import Usage
from llmwatch.measure.timeline import Timeline
from llmwatch.signals.context import AttributeValue, current_operation
from llmwatch.signals.operation import Operation

_log = logging.getLogger("llmwatch")
_told: set[str] = set()


def current() -> Current:
    """The innermost watched call that runs here: inside a function decorated with `watch`.

    Where there is none (nothing is instrumented, or this is not inside a watched call) the handle
    does nothing. It may be kept, and used from callbacks and other threads, until the call ends.
    """
    return Current(current_operation())


class Current:
    """One watched call in progress. Got from `current`; no method raises."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation | None) -> None:
        self._operation = operation

    def usage(
        self,
        *,
        input_tokens: SupportsIndex | None = None,
        output_tokens: SupportsIndex | None = None,
        cache_read_tokens: SupportsIndex | None = None,
        cache_write_tokens: SupportsIndex | None = None,
        reasoning_tokens: SupportsIndex | None = None,
        estimated: bool = False,
    ) -> None:
        """Say how many tokens the call used; later calls overwrite only what they give.

        Args:
            input_tokens: Tokens of the prompt, cached ones included.
            output_tokens: Tokens generated, reasoning included.
            cache_read_tokens: Input tokens that came from a cache.
            cache_write_tokens: Input tokens written to a cache.
            reasoning_tokens: Output tokens spent on reasoning.
            estimated: True where the counts are not a tokenizer's own; it is recorded with them.
        """
        given = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            "reasoning_tokens": reasoning_tokens,
        }
        counts = {
            key: count
            for key, value in given.items()
            if value is not None and (count := _count(f"usage({key}=…)", value)) is not None
        }
        if self._operation is not None and counts:
            usage = self._operation.usage or Usage()
            self._operation.usage = usage._replace(**counts, estimated=bool(estimated))

    def model(self, name: str) -> None:
        """Say which model answered (``gen_ai.response.model``)."""
        if self._operation is not None and _is_text("model(…)", name):
            self._operation.response_model = name

    def response_id(self, id: str) -> None:  # noqa: A002 - the word of the conventions
        """Say which id the response has (``gen_ai.response.id``)."""
        if self._operation is not None and _is_text("response_id(…)", id):
            self._operation.response_id = id

    def finish(self, *reasons: str) -> None:
        """Say why the model stopped: ``"stop"``, ``"length"``, …; one reason for each choice."""
        if self._operation is not None and all(_is_text("finish(…)", each) for each in reasons):
            self._operation.finish_reasons = list(reasons)

    def set(self, **attributes: AttributeValue) -> None:
        """Put attributes on the span, under their own names with ``__`` read as ``.``."""
        if self._operation is None:
            return
        for key, value in attributes.items():
            if _is_scalar(f"set({key}=…)", value):
                self._operation.attributes[key.replace("__", ".")] = value

    def chunk(self) -> None:
        """Say that output has just arrived: for functions that get it by a callback.

        Time to first chunk and the gaps are taken from these moments. In a decorated generator
        each yielded item is a chunk already, and this does nothing.

        Cost: two clock readings kept a call, 16 bytes.
        """
        now = perf_counter()
        if self._operation is not None:
            _arrived(self._operation.timeline or self._operation.stream(), now)


def _arrived(timeline: Timeline, now: float) -> None:
    asked, got = timeline.asked, timeline.got
    if len(asked) > len(got):
        return  # a generator's step is under way: what it yields is the chunk
    asked.append(got[-1] if got else timeline.started)
    got.append(now)


def _count(where: str, value: SupportsIndex) -> int | None:
    try:
        count = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        count = -1
    if count < 0:
        _ignore(where, value, "a whole number of tokens, 0 or more")
        return None
    return count


def _is_text(where: str, value: object) -> bool:
    if isinstance(value, str):
        return True
    _ignore(where, value, "a string")
    return False


def _is_scalar(where: str, value: object) -> bool:
    if isinstance(value, (str, bool, int, float)):
        return True
    _ignore(where, value, "a string, a number or a boolean")
    return False


def _ignore(where: str, value: object, remedy: str) -> None:
    if where in _told:
        return
    _told.add(where)
    shown = value if isinstance(value, (int, float)) else f"a value of type {type(value).__name__}"
    _log.warning("llmwatch.current().%s ignores %s: give %s.", where, shown, remedy)
