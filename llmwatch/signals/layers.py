"""Sampled passes of a model, layer by layer, become metrics; by option the layers become spans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch.measure.layers import Layer, LayerSample
from llmwatch.signals.context import current_operation

if TYPE_CHECKING:
    from llmwatch.signals.readings import Dimensions

MOST_NAMES = 128
"""Watched layers of one model that have names of their own in metrics; of more, numbers in names
are left out, so that the blocks share a series."""

WHOLE = "(model)"


class Labels:
    """The attributes of the layers of one model.

    Args:
        model: What the model is called.
        layers: Its watched layers.
    """

    def __init__(self, model: str, layers: tuple[Layer, ...]) -> None:
        many = len(layers) > MOST_NAMES
        self._of = {each: _dimensions(model, each, many=many) for each in layers}

    def __getitem__(self, layer: Layer) -> Dimensions:
        return self._of[layer]


def _dimensions(model: str, layer: Layer, *, many: bool) -> Dimensions:
    name = layer.name or WHOLE
    found: list[tuple[str, str | int]] = [
        (semconv.REQUEST_MODEL, model),
        (names.LAYER_NAME, re.sub(r"(?<![^.])\d+(?![^.])", "*", name) if many else name),
        (names.LAYER_TYPE, layer.type),
    ]
    if layer.block is not None and not many:
        found.append((names.LAYER_BLOCK, layer.block))
    return tuple(found)


def span_of_now() -> tuple[int, int]:
    """Trace and span id of the watched operation at hand; zeros where none is kept."""
    operation = current_operation()
    if operation is None:
        return 0, 0
    context = operation.span.get_span_context()
    return (context.trace_id, context.span_id) if context.trace_flags.sampled else (0, 0)


class Measured(NamedTuple):
    """One sampled pass on its way into metrics."""

    sample: LayerSample
    labels: Labels
    more: Dimensions
    """Attributes of the process: rank and the like."""

    @property
    def ended_at(self) -> int:
        """Unix time in nanoseconds."""
        return self.sample.started_at

    @property
    def trace_id(self) -> int:
        """0 where the span was not sampled."""
        return self.sample.trace_id

    @property
    def span_id(self) -> int:
        """As above."""
        return self.sample.span_id

    @property
    def size(self) -> int:
        """Calls in it."""
        return len(self.sample.calls)

    def numbers(self) -> Iterator[tuple[semconv.Metric, Dimensions, tuple[float, ...]]]:
        """The calls' times, by layer."""
        found: dict[Dimensions, list[float]] = {}
        for call in self.sample.calls:
            found.setdefault(self.labels[call.layer], []).append(call.total_time)
        more = (
            (names.LAYER_PHASE, self.sample.phase),
            (names.LAYER_DEVICE, self.sample.device),
            *self.more,
        )
        for dimensions, times in found.items():
            yield names.DURATION, dimensions + more, tuple(sorted(times))
