"""One sampled forward: wrappers in place, marks, and what is known of it besides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from llmwatch._guard import Guard
from llmwatch.measure.layers import Call, LayerSample
from llmwatch.signals import active
from llmwatch.signals.layers import span_of_now
from llmwatch.sources.torch_layers.ranks import rank_attributes

if TYPE_CHECKING:
    from threading import Lock

    from torch import nn

    from llmwatch.signals.layers import Labels
    from llmwatch.signals.operation import Signals
    from llmwatch.signals.readings import Dimensions
    from llmwatch.sources.torch_layers.layout import Layout
    from llmwatch.sources.torch_layers.observe import Beginning
    from llmwatch.sources.torch_layers.tape import Tape

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")

MODEL = 0
"""Number of the model itself among its layers."""


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
    more = () if signals is None else rank_attributes()
    return About(model, layout.dtype, layout.labels, signals, more, *span_of_now())


class Forward:
    """One sampled forward.

    Args:
        tape: Where its marks go.
        layout: The model's layers.
        beginning: What is known of it.
        model: What the model is called.
    """

    failed = False
    turn: Lock | None = None
    """Held while it is sampled."""

    def __init__(self, tape: Tape, layout: Layout, beginning: Beginning, model: str) -> None:
        self.tape = tape
        self.beginning = beginning
        self.about = _about(layout, model)
        self._layout = layout

    def put(self, modules: list[nn.Module]) -> None:
        """Put the wrappers in place."""
        self._layout.shared.tape = self.tape
        for slot, module in zip(self._layout.slots, modules[1:], strict=True):
            slot.put(module)

    def take(self) -> None:
        """Take them out, and let others have their turn; may be done twice."""
        try:
            self._layout.take()
        finally:
            turn, self.turn = self.turn, None
            if turn is not None:
                turn.release()

    def run(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Make the call, with its marks round it."""
        tape = self.tape
        with ExitStack() as stack:
            with _LOOK:
                for look in tape.looks:
                    if look.around is not None:
                        stack.enter_context(look.around)
            with _MARK:
                tape.mark(MODEL)
            try:
                if tape.looks:
                    with _LOOK:
                        tape.observe("enter", MODEL, module, args, kwargs)
                output = call(*args, **kwargs)
                if tape.looks:
                    with _LOOK:
                        tape.observe("leave", MODEL, module, args, kwargs, output)
            except BaseException:
                self.failed = True
                raise
            finally:
                with _MARK:
                    tape.mark(~MODEL)
        return output

    @property
    def is_timed(self) -> bool:
        """False where its times mean nothing: it failed, or a look took time inside its layers."""
        disturbed = any(look.around is not None for look in self.tape.looks)
        return not (self.failed or self.tape.void or self.tape.is_full or disturbed)

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
            beginning.shapes,
            beginning.tokens,
            about.dtype,
            about.trace_id,
            about.span_id,
        )

    def tell(self, sample: LayerSample | None) -> None:
        """Say to whoever looked that it is over."""
        for look in self.tape.looks:
            with _LOOK:
                look.end(sample)
