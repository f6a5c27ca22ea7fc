"""One sampled forward: wrappers in place, marks, and what is known of it besides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llmwatch._guard import Guard
from llmwatch.measure.layers import Call, LayerSample

if TYPE_CHECKING:
    from threading import Lock

    from torch import nn

    from llmwatch.signals.layers import Labels
    from llmwatch.sources.torch_layers.layout import Layout
    from llmwatch.sources.torch_layers.observe import Beginning
    from llmwatch.sources.torch_layers.tape import Tape

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")

MODEL = 0
"""Number of the model itself among its layers."""


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
    trace_id = span_id = 0

    def __init__(self, tape: Tape, layout: Layout, beginning: Beginning, model: str) -> None:
        self.tape = tape
        self.beginning = beginning
        self.model = model
        self._layout = layout

    @property
    def labels(self) -> Labels:
        """What its layers are called in metrics."""
        return self._layout.labels

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
    def done(self) -> bool:
        """Whether all times are known. Asks, and never waits."""
        return self.tape.done

    def sample(self) -> LayerSample | None:
        """Its times, once the tape is done; None where they mean nothing.

        Raises:
            ValueError: If marks are missing.
        """
        disturbed = any(look.around is not None for look in self.tape.looks)
        if self.failed or self.tape.void or disturbed:
            return None
        calls, beginning = self.tape.calls(), self.beginning
        self.tape.release()
        return self.described(beginning.phase, self.tape.started_at, calls[0].total_time, calls)

    def described(
        self, phase: str, started_at: int, total: float, calls: tuple[Call, ...]
    ) -> LayerSample:
        """Times, with what else is known."""
        beginning = self.beginning
        return LayerSample(
            self.model,
            phase,
            beginning.device,
            started_at,
            total,
            calls,
            beginning.shapes,
            beginning.tokens,
            self._layout.dtype,
            self.trace_id,
            self.span_id,
        )

    def tell(self, sample: LayerSample | None) -> None:
        """Say to whoever looked that it is over."""
        for look in self.tape.looks:
            with _LOOK:
                look.end(sample)
