"""Which numbers of a record go into which metric, and under which attributes.

The conventions decide: ``error.type`` is a dimension of durations and of the token histograms of
genai-0.1, of nothing else; a response fetched again costs no tokens a second time; a counter of
genai-0.1 gets a zero where an inference reported no usage (a histogram never does: there a zero
would be a value).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol

from llmwatch import semconv, semconv_hardware, semconv_models, semconv_tasks
from llmwatch.measure.generation import Generation
from llmwatch.measure.record import OperationRecord, Series, Usage

Value = float | tuple[float, ...]
"""A number, or several of them in ascending order."""
AttributeValue = str | int | float | bool
Dimensions = tuple[tuple[str, AttributeValue], ...]

Subject = Literal[
    "record",
    "timing",
    "usage",
    "priced",
    "inference",
    "inference usage",
    "embeddings",
    "embedded",
    "served",
    "generation",
]
"""What a number is taken from, in the order of `subjects`."""
SUBJECTS: tuple[Subject, ...] = Subject.__args__  # type: ignore[attr-defined]

EMBEDDINGS = "embeddings"
FETCH_RESPONSE = "fetch_response"
INFERENCE = frozenset({"chat", "generate_content", "text_completion"})
"""Operations of which every one counts in the usage counters, with a zero if need be."""

_UNKNOWN: Dimensions = ((semconv.TOKEN_MODALITY, "unknown"),)
_AUDIO: Dimensions = ((semconv.TOKEN_MODALITY, "audio"),)
_ESTIMATED: Dimensions = ((semconv.USAGE_ESTIMATED, True),)


class Measured(Protocol):
    """Something that was measured and is no operation: its numbers go into metrics all the same."""

    @property
    def ended_at(self) -> int:
        """Unix time in nanoseconds."""

    @property
    def trace_id(self) -> int:
        """0 where the span was not sampled."""

    @property
    def span_id(self) -> int:
        """As above."""

    @property
    def size(self) -> int:
        """How many numbers, roughly."""

    def numbers(self) -> Iterable[tuple[semconv.Metric, Dimensions, tuple[float, ...]]]:
        """Numbers in ascending order, the metric that counts them, and their attributes."""


class Reading(NamedTuple):
    """One number of each record, and the metric that counts it."""

    metric: semconv.Metric
    subject: Subject
    read: Callable[[Any], Value | None]
    """Takes the number from the subject; None where there is none."""
    by_error: bool = False
    """Whether ``error.type`` is a dimension."""
    of_tokens: bool = False
    """Whether it is made of token counts, which may be an estimate."""
    dimensions: Dimensions = ()
    """Attributes of the reading's own."""

    @property
    def key(self) -> int:
        """Which of the `keys` of a record is its series."""
        return self.by_error + 2 * self.of_tokens


def readings(setting: str) -> list[Reading]:
    """Everything that is read from a record under one ``semconv`` setting."""
    wanted = semconv.versions(setting)
    found: list[Reading] = []
    if "1.41" in wanted:
        found.extend(_of_1_41(semconv.CONVENTION_METRICS["1.41"]))
    if "genai-0.1" in wanted:
        found.extend(_of_genai(semconv.CONVENTION_METRICS["genai-0.1"]))
    found.extend(_own(semconv.OWN_METRICS))
    found.extend(_gpu(semconv_hardware.OPERATION_METRICS))
    found.extend(_served(semconv_models.SERVER_METRICS))
    found.extend(_generation(semconv_models.GENERATION_METRICS))
    for name, metric in semconv_tasks.TASK_METRICS.items():
        found.append(Reading(metric, "record", attrgetter(name)))
    return found


def metrics_of(readings: Iterable[Reading]) -> list[semconv.Metric]:
    """The metrics that readings go into, each once."""
    return list({reading.metric.name: reading.metric for reading in readings}.values())


def subjects(record: OperationRecord) -> tuple[object, ...]:
    """What a record offers of each of `SUBJECTS`; None: nothing."""
    operation, usage = record.series.operation, record.usage
    if operation == FETCH_RESPONSE:
        usage = None  # it was counted when the response was made
    priced = None if usage is None else record
    timing, generation = record.timing, record.generation
    served = None if generation is None else record
    if record.series.error_type is not None:
        generation = None  # the conventions want times of what succeeded
    if operation == EMBEDDINGS:
        return record, timing, usage, priced, None, None, record, usage, served, generation
    return record, timing, usage, priced, record, usage, None, None, served, generation


def keys(record: OperationRecord) -> tuple[Series, Series, Series, Series]:
    """The series of a record: plain, by error, and both again for what is made of tokens."""
    series, usage = record.series, record.usage
    plain = series if series.error_type is None else series._replace(error_type=None)
    if usage is None or not usage.estimated:
        return plain, series, plain, series
    extra = series.extra + _ESTIMATED
    return plain, series, plain._replace(extra=extra), series._replace(extra=extra)


_NAMES = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.ERROR_TYPE,
)


def attributes(series: Series, dimensions: Dimensions = ()) -> dict[str, AttributeValue]:
    """The attributes of a metric point."""
    values = series[:-1]  # all but `extra`
    found: dict[str, AttributeValue] = {
        name: value for name, value in zip(_NAMES, values, strict=True) if value is not None
    }
    found.update(series.extra)
    found.update(dimensions)
    return found


# --- the table of readings -----------------------------------------------------------------------


def _of_1_41(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    yield Reading(metrics["duration"], "record", attrgetter("duration"), by_error=True)
    yield from _chunks(metrics)
    for kind in ("input", "output"):
        yield Reading(
            metrics["token_usage"],
            "usage",
            attrgetter(f"{kind}_tokens"),
            of_tokens=True,
            dimensions=((semconv.TOKEN_TYPE, kind),),
        )


def _of_genai(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    duration, tokens = attrgetter("duration"), attrgetter("input_tokens")
    yield Reading(metrics["duration"], "inference", duration, by_error=True)
    yield Reading(metrics["embeddings_duration"], "embeddings", duration, by_error=True)
    yield Reading(metrics["embeddings_input_tokens"], "embedded", tokens, of_tokens=True)
    yield from _chunks(metrics)
    for name, count in _COUNTERS.items():
        read = _or_zero(count)
        yield Reading(metrics[name], "inference", read, of_tokens=True, dimensions=_UNKNOWN)
    for kind in ("input", "output"):
        metric, audio = metrics[f"{kind}_tokens"], attrgetter(f"audio_{kind}_tokens")
        yield Reading(metric, "inference usage", audio, of_tokens=True, dimensions=_AUDIO)
        metric, tokens = metrics[f"operation_{kind}_tokens"], attrgetter(f"{kind}_tokens")
        yield Reading(metric, "inference usage", tokens, by_error=True, of_tokens=True)


def _chunks(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    first = attrgetter("time_to_first_chunk")
    yield Reading(metrics["time_to_first_chunk"], "timing", first)
    yield Reading(metrics["time_per_output_chunk"], "timing", _gaps)


def _own(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    yield Reading(metrics["inter_chunk_time"], "timing", _gaps)
    for name in ("time_to_first_output", "time_to_first_reasoning"):
        yield Reading(metrics[name], "timing", attrgetter(name))
    for name in ("time_per_output_token", "output_token_rate", "cost"):
        yield Reading(metrics[name], "priced", attrgetter(name), of_tokens=True)
    yield Reading(metrics["client_wait"], "record", attrgetter("client_wait"))


def _gpu(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    yield Reading(metrics["energy"], "record", attrgetter("gpu_energy"))
    yield Reading(metrics["cost"], "record", attrgetter("gpu_cost"))
    per_token = attrgetter("gpu_energy_per_token")
    yield Reading(metrics["energy_per_token"], "priced", per_token, of_tokens=True)
    for key, name in _CHARGED.items():
        yield Reading(metrics[key], "record", _of_charge(name))


_CHARGED = {
    "utilization": "utilization_mean",
    "utilization_max": "utilization_max",
    "memory": "memory_mean",
    "memory_max": "memory_max",
}
"""Keys of the metrics, and attributes of a `Charge`."""


def _of_charge(name: str) -> Callable[[OperationRecord], float | None]:
    read = attrgetter(name)
    return lambda record: None if record.gpu is None else read(record.gpu)


def _served(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    yield Reading(metrics["duration"], "served", attrgetter("duration"), by_error=True)
    for name in ("time_to_first_token", "time_per_output_token"):
        yield Reading(metrics[name], "generation", attrgetter(name))


def _generation(metrics: dict[str, semconv.Metric]) -> Iterator[Reading]:
    yield Reading(metrics["gaps"], "generation", _gaps)
    for name in ("prefill_time", "prefill_rate", "decode_rate", "cache_bytes"):
        yield Reading(metrics[name], "generation", attrgetter(name))
    for name, parts in (("slots", _SLOTS), ("drafts", _DRAFTS)):
        for dimensions, read in parts.items():
            yield Reading(metrics[name], "generation", read, dimensions=dimensions)
    yield Reading(metrics["perplexity"], "generation", _perplexity)


def _useful(generation: Generation) -> int | None:
    return None if generation.padding is None else generation.output_tokens


def _rejected(generation: Generation) -> int | None:
    drafted, accepted = generation.drafted, generation.accepted
    return None if drafted is None or accepted is None else drafted - accepted


def _perplexity(generation: Generation) -> float | None:
    return None if generation.confidence is None else generation.confidence.perplexity


_Parts = dict[Dimensions, Callable[[Any], Value | None]]
_SLOTS: _Parts = {
    ((semconv_models.SLOT, "useful"),): _useful,
    ((semconv_models.SLOT, "padding"),): attrgetter("padding"),
}
_DRAFTS: _Parts = {
    ((semconv_models.DRAFT, "accepted"),): attrgetter("accepted"),
    ((semconv_models.DRAFT, "rejected"),): _rejected,
}


def _gaps(timing: Any) -> Value | None:
    return timing.gaps or None


def _or_zero(count: Callable[[Usage], int | None]) -> Callable[[OperationRecord], int | None]:
    def read(record: OperationRecord) -> int | None:
        operation, usage = record.series.operation, record.usage
        value = None if usage is None or operation == FETCH_RESPONSE else count(usage)
        return 0 if value is None and operation in INFERENCE else value

    return read


def _beside_audio(kind: str) -> Callable[[Usage], int | None]:
    all_of, audio_of = attrgetter(f"{kind}_tokens"), attrgetter(f"audio_{kind}_tokens")

    def count(usage: Usage) -> int | None:
        tokens: int | None = all_of(usage)
        return None if tokens is None else max(tokens - (audio_of(usage) or 0), 0)

    return count


_COUNTERS: dict[str, Callable[[Usage], int | None]] = {
    "input_tokens": _beside_audio("input"),
    "output_tokens": _beside_audio("output"),
    "cache_read_tokens": attrgetter("cache_read_tokens"),
    "cache_write_tokens": attrgetter("cache_write_tokens"),
    "reasoning_tokens": attrgetter("reasoning_tokens"),
}
