"""Sampled passes of a model, layer by layer, become metrics; by option the layers become spans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch.measure.layers import Layer, LayerSample, LayerTotal
from llmwatch.signals.context import current_operation

if TYPE_CHECKING:
    from llmwatch.signals.operation import Signals
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
            found.setdefault(self.attributes(call.layer), []).append(call.total_time)
        for dimensions, times in found.items():
            yield names.DURATION, dimensions, tuple(sorted(times))

    def attributes(self, layer: Layer) -> Dimensions:
        """What is said of one of its layers."""
        phase, device = self.sample.phase, self.sample.device
        where = (names.LAYER_PHASE, phase), (names.LAYER_DEVICE, device)
        return (*self.labels[layer], *where, *self.more)


def tell(signals: Signals, measured: Measured) -> None:
    """Put a sampled pass into metrics, and by the setting `layer_spans` on its trace."""
    signals.metrics.put_measured(measured)
    most, sample = signals.config.layer_spans, measured.sample
    if most and sample.trace_id:
        _spans(signals, measured, most)


def _spans(signals: Signals, measured: Measured, most: int) -> None:
    """The longest calls as children of the operation's span. Cost: 60 to 85 µs each."""
    sample = measured.sample
    flags = TraceFlags(TraceFlags.SAMPLED)
    parent = SpanContext(sample.trace_id, sample.span_id, is_remote=False, trace_flags=flags)
    context = set_span_in_context(NonRecordingSpan(parent), Context())
    longest = nlargest(most, sample.calls[1:], key=attrgetter("total_time"))
    for call in sorted(longest, key=attrgetter("started")):
        began = sample.started_at + round(call.started * 1e9)
        attributes = dict(measured.attributes(call.layer))
        attributes[names.LAYER_SELF_TIME] = call.self_time
        span = signals.tracer.start_span(
            call.layer.name, context, attributes=attributes, start_time=began
        )
        span.end(began + round(call.total_time * 1e9))


def shares(rows: Iterable[LayerTotal], labels: Labels, more: Dimensions) -> list[Observation]:
    """What each layer's share of its phase is; layers that share a name are summed up."""
    found: dict[Dimensions, float] = {}
    for row in rows:
        key = (*labels[row.layer], (names.LAYER_PHASE, row.phase), *more)
        found[key] = found.get(key, 0.0) + row.share
    return [Observation(share, dict(key)) for key, share in found.items()]


def passes(model: str, counts: dict[str, int], more: Dimensions) -> list[Observation]:
    """How many passes were sampled, by phase."""
    named = {semconv.REQUEST_MODEL: model, **dict(more)}
    return [Observation(many, {**named, names.LAYER_PHASE: each}) for each, many in counts.items()]
