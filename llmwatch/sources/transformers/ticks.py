"""Notice every step of a decoding loop, at a reading of the clock and a length each.

transformers asks its stopping criteria once a step, right after the step's tokens were chosen, in
every mode. On the CPU they are known then. An accelerator may still be at work, so there the time
is read where the loop goes on: after transformers itself has waited for the device, never by a wait
of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from time import perf_counter
from typing import Any

from llmwatch._guard import Guard
from llmwatch.measure.generation import Decoding
from llmwatch.signals.operation import Operation

_TICK = Guard("transformers.tick")


class Ticks:
    """Writes steps on a decoding loop.

    Args:
        loop: What is written on.
        operation: Its phase turns to decoding with the first step.
        at_once: Whether tokens are known as soon as they are chosen.
        late: Whether the loop waits for each step's tokens one step later.
    """

    __slots__ = ("_got", "_long", "_operation", "at_once", "drafting", "late", "loop")

    def __init__(
        self, loop: Decoding, operation: Operation, *, at_once: bool, late: bool = False
    ) -> None:
        self.loop = loop
        self.at_once = at_once
        self.late = late
        self.drafting = False
        """True: what is asked of next is a draft, and no step."""
        self._operation = operation
        self._got = loop.arrivals.append
        self._long = loop.lengths.append

    def step(self, input_ids: Any) -> None:
        """A step's tokens were chosen. Cost: 0.5 µs."""
        if self.drafting:
            self.drafting = False
            return
        if self.at_once:
            self._got(perf_counter())
        self._long(input_ids.shape[1])
        self._operation.phase = "decode"

    def arrived(self) -> None:
        """The loop goes on, so the device has answered."""
        if len(self.loop.arrivals) < len(self.loop.lengths):
            self._got(perf_counter())


def ticking(criteria: Any, ticks: Ticks) -> Any:
    """The same stopping criteria, in a list that ticks whenever it is asked.

    Args:
        criteria: A ``StoppingCriteriaList`` that nobody else holds.
        ticks: Told of each step.
    """
    kind = type(criteria)
    if kind not in _kinds:
        _kinds[kind] = _ticking_type(kind)
    made = _kinds[kind](criteria)
    vars(made).update(vars(criteria))
    made.llmwatch_ticks = ticks
    return made


_kinds: dict[type, Any] = {}
"""Kinds of lists, and those of ours that tick."""


def _ticking_type(base: Any) -> Any:
    call: Callable[..., Any] = base.__call__

    def ask(self: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        with _TICK:
            self.llmwatch_ticks.step(input_ids)
        return call(self, input_ids, *args, **kwargs)

    def copied(self: Any) -> Any:
        return ticking(base(self), self.llmwatch_ticks)

    def copied_deeply(self: Any, memo: dict[int, Any]) -> Any:
        return ticking(deepcopy(base(self), memo), self.llmwatch_ticks)

    def reduced(self: Any) -> Any:
        return base, (list(self),)  # pickled, it is the user's list again

    methods = {
        "__call__": ask,
        "__copy__": copied,
        "__deepcopy__": copied_deeply,
        "__doc__": base.__doc__,
        "__reduce__": reduced,
    }
    return type(base.__name__, (base,), methods)


class Criterion:
    """One stopping criterion that never stops: for releases that ask no list of ours."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        """See ``transformers.StoppingCriteria``."""
        with _TICK:
            self._ticks.step(input_ids)
        return False
