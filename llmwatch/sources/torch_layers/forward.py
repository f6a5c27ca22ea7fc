"""One sampled forward: wrappers in place, marks, and what is known of it besides."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from llmwatch._guard import Guard
from llmwatch.measure.layers import Call, LayerSample
from llmwatch.signals import active
from llmwatch.signals.layers import span_of_now
from llmwatch.sources.torch_layers.ranks import rank_attributes
from llmwatch.sources.torch_layers.tape import MODEL

if TYPE_CHECKING:
    from threading import Lock

    from torch import nn

    from llmwatch.signals.layers import Labels
    from llmwatch.signals.operation import Signals
    from llmwatch.signals.readings import Dimensions
    from llmwatch.sources.torch_layers.layout import Layout
    from llmwatch.sources.torch_layers.observe import Beginning
    from llmwatch.sources.torch_layers.swap import Wrappers
    from llmwatch.sources.torch_layers.tape import Tape
    from llmwatch.sources.torch_layers.tree import Found

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")

LATER = (Generator, Coroutine, AsyncGenerator)
"""What a `forward` gives back that has done nothing yet."""


class About(NamedTuple):
    """What is true of a forward while it runs, and may be otherwise when it is summed up."""

    model: str
    """What it is called."""
    dtype: str | None
    labels: Labels
    """What its layers are called in metrics."""
    signals: Signals | None
    """Of the session it belongs to; None: there is none."""
    more: Dimensions
    """Attributes of the process: rank and the like."""
    trace_id: int
    span_id: int


def _about(layout: Layout, model: str) -> About:
    signals = active.signals
    if signals is None:
        return About(model, layout.dtype, layout.labels, None, (), 0, 0)
    return About(model, layout.dtype, layout.labels, signals, rank_attributes(), *span_of_now())


class Forward:
    """One sampled forward.

    Args:
        tape: Where its marks go.
        layout: The model's layers.
        beginning: What is known of it.
        model: What the model is called.
    """

    failed = True
    """Until it has come to its end."""
    later = False
    """Whether it only promised to do its work."""
    turn: Lock | None = None
    """Held while it is sampled."""
    _wrappers: Wrappers | None = None

    def __init__(self, tape: Tape, layout: Layout, beginning: Beginning, model: str) -> None:
        self.tape = tape
        self.beginning = beginning
        self.about = _about(layout, model)
        self._layout = layout

    def put(self, found: Found) -> None:
        """Put the wrappers in place."""
        self._wrappers = self._layout.put(self.tape, found)

    def take(self) -> None:
        """Take them out, and let others have their turn; may be done twice."""
        try:
            if self._wrappers is not None:
                self._wrappers.take()
                self._layout.taken()
                self._wrappers = None
        finally:
            turn, self.turn = self.turn, None
            if turn is not None:
                turn.release()

    def run(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Make the call, with its marks round it."""
        tape = self.tape
        if tape.looks:
            return self._run_looked_at(module, call, args, kwargs)
        try:
            with _MARK:
                tape.mark(MODEL)
            output = call(*args, **kwargs)
            self.failed = False
        finally:
            with _MARK:
                tape.end()
        self.later = isinstance(output, LATER)
        return output

    def _run_looked_at(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        tape = self.tape
        with ExitStack() as stack:
            with _LOOK:
                for look in tape.looks:
                    if look.around is not None:
                        stack.enter_context(look.around)
            with _MARK:
                tape.mark(MODEL)
            try:
                with _LOOK:
                    tape.observe("enter", MODEL, module, args, kwargs)
                output = call(*args, **kwargs)
                with _LOOK:
                    tape.observe("leave", MODEL, module, args, kwargs, output)
                self.failed = False
            finally:
                with _MARK:
                    tape.end()
        self.later = isinstance(output, LATER)
        return output

    @property
    def is_timed(self) -> bool:
        """Whether its times mean something.

        Not those of one that failed or has yet to do its work, nor where a look took time inside
        its layers.
        """
        tape = self.tape
        if self.failed or self.later or tape.void or tape.is_full:
            return False
        return not tape.looks or all(look.around is None for look in tape.looks)

    @property
    def done(self) -> bool:
        """Whether all times are known. Asks, and never waits."""
        return self.tape.done

    def sample(self) -> LayerSample | None:
        """Its times, once the tape is done; None where they mean nothing.

        Raises:
            ValueError: If marks are missing.
        """
        if not self.is_timed:
            return None
        calls, beginning = self.tape.calls(), self.beginning
        self.tape.release()
        return self.described(beginning.phase, self.tape.started_at, calls[0].total_time, calls)

    def described(
        self, phase: str, started_at: int, total: float, calls: tuple[Call, ...]
    ) -> LayerSample:
        """Times, with what else is known."""
        beginning, about = self.beginning, self.about
        return LayerSample(
            about.model,
            phase,
            beginning.device,
            started_at,
            total,
            calls,
            beginning.inputs.shapes,
            beginning.inputs.tokens,
            about.dtype,
            about.trace_id,
            about.span_id,
        )

    def tell(self, sample: LayerSample | None) -> None:
        """Say to whoever looked that it is over."""
        for look in self.tape.looks:
            with _LOOK:
                look.end(sample)
