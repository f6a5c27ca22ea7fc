"""What a finished operation puts on its span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch import semconv_models as models
from llmwatch import semconv_tasks as tasks
from llmwatch._guard import Guard
from llmwatch.measure.charge import Charge
from llmwatch.measure.generation import Confidence, Decoding, Generation
from llmwatch.measure.record import OperationRecord, Usage

if TYPE_CHECKING:
    from llmwatch.config import Config
    from llmwatch.signals.operation import Operation

_CONTENT = Guard("signals.content")

MOST_SEQUENCES = 128
"""Sequences of one request that are told of one by one."""


def span_attributes(
    operation: Operation,
    record: OperationRecord,
    config: Config,
    versions: tuple[semconv.Version, ...],
) -> dict[str, Any]:
    """The attributes known at the end, by full name; those that are unknown are absent.

    Args:
        operation: Its own attributes are where the others are added.
        record: What was measured.
        config: The settings.
        versions: Releases of the conventions to name things by.
    """
    found, usage = operation.attributes, record.usage
    _add(
        found,
        (semconv.RESPONSE_MODEL, operation.response_model),
        (semconv.RESPONSE_ID, operation.response_id),
        (semconv.RESPONSE_FINISH_REASONS, operation.finish_reasons),
        (semconv.ERROR_TYPE, record.series.error_type),
        (semconv.STREAM_ENDING, operation.ending),
        (semconv.CLIENT_WAIT, record.client_wait),
        (semconv.COST, record.cost),
        (tasks.INPUT_RATE, record.input_rate),
        (tasks.QUEUE_TIME, record.queue_time),
    )
    if usage is not None:
        _add_usage(found, usage, versions)
    if record.timing is not None:
        _add_timing(found, operation, record, config)
    if record.generation is not None:
        _add_generation(found, record, record.generation)
        if config.timeline and operation.decodings:
            found[models.GENERATION_TIMELINE] = _offsets(operation.decodings, operation.started)
    if record.gpu is not None:
        _add_gpu(found, record, record.gpu)
    if operation.content is not None and config.capture_content.on_spans:
        with _CONTENT:
            found.update(operation.content.for_span())
    return found


def _add(found: dict[str, Any], *pairs: tuple[str, Any]) -> None:
    found.update({key: value for key, value in pairs if value is not None})


def _add_usage(found: dict[str, Any], usage: Usage, versions: tuple[semconv.Version, ...]) -> None:
    _add(
        found,
        (semconv.USAGE_INPUT_TOKENS, usage.input_tokens),
        (semconv.USAGE_OUTPUT_TOKENS, usage.output_tokens),
        (semconv.USAGE_CACHE_READ_INPUT_TOKENS, usage.cache_read_tokens),
        (semconv.USAGE_REASONING_OUTPUT_TOKENS, usage.reasoning_tokens),
        (semconv.USAGE_AUDIO_INPUT_TOKENS, usage.audio_input_tokens),
        (semconv.USAGE_AUDIO_OUTPUT_TOKENS, usage.audio_output_tokens),
    )
    if usage.cache_write_tokens is not None:
        for version in versions:
            found[semconv.CACHE_WRITE_TOKENS[version]] = usage.cache_write_tokens
    if usage.estimated:
        found[semconv.USAGE_ESTIMATED] = True


def _add_timing(
    found: dict[str, Any], operation: Operation, record: OperationRecord, config: Config
) -> None:
    timing = record.timing
    assert timing is not None
    _add(
        found,
        (semconv.STREAM_CHUNKS, timing.chunks),
        (semconv.STREAM_READY_CHUNKS, timing.ready_chunks or None),
        (semconv.STREAM_SERVER_WAIT, timing.server_wait),
        (semconv.STREAM_CONSUMER_TIME, timing.consumer_time),
        (semconv.RESPONSE_TIME_TO_FIRST_CHUNK, timing.time_to_first_chunk),
        (semconv.TIME_TO_FIRST_OUTPUT, timing.time_to_first_output),
        (semconv.TIME_TO_FIRST_REASONING, timing.time_to_first_reasoning),
        (semconv.TIME_PER_OUTPUT_TOKEN, record.time_per_output_token),
        (semconv.OUTPUT_TOKEN_RATE, record.output_token_rate),
    )
    if timing.gaps:
        found[semconv.STREAM_GAP_P50] = timing.quantile(0.5)
        found[semconv.STREAM_GAP_P95] = timing.quantile(0.95)
        found[semconv.STREAM_GAP_MAX] = timing.gaps[-1]
        found[semconv.STREAM_STALLS] = timing.stalls(config.stall_after)
    if config.timeline and operation.timeline is not None:
        found[semconv.STREAM_TIMELINE] = operation.timeline.offsets()


def _add_generation(found: dict[str, Any], record: OperationRecord, generation: Generation) -> None:
    _add(
        found,
        (models.GENERATION_STEPS, generation.steps or None),
        (models.GENERATION_OUTPUTS, (generation.outputs or ())[:MOST_SEQUENCES] or None),
        (models.GENERATION_TIME_TO_FIRST_TOKEN, generation.time_to_first_token),
        (models.GENERATION_PREFILL_TIME, generation.prefill_time),
        (models.GENERATION_PREFILL_RATE, generation.prefill_rate),
        (models.GENERATION_DECODE_TIME, generation.decode_time or None),
        (models.GENERATION_DECODE_RATE, generation.decode_rate),
        (models.GENERATION_SLOTS, generation.slots),
        (models.GENERATION_PADDING, generation.padding_share),
        (models.GENERATION_PADDING_RATE, record.padding_rate),
        (models.GENERATION_DRAFTED, generation.drafted),
        (models.GENERATION_ACCEPTED, generation.accepted),
        (models.GENERATION_CACHE_SIZE, generation.cache_bytes),
        (semconv.TIME_PER_OUTPUT_TOKEN, record.time_per_output_token),
        (semconv.OUTPUT_TOKEN_RATE, record.output_token_rate),
    )
    if generation.gaps:
        found[models.GENERATION_GAP_P50] = generation.quantile(0.5)
        found[models.GENERATION_GAP_P95] = generation.quantile(0.95)
        found[models.GENERATION_GAP_MAX] = generation.gaps[-1]
    if generation.confidence is not None:
        _add_confidence(found, generation.confidence)


def _add_confidence(found: dict[str, Any], confidence: Confidence) -> None:
    found[models.GENERATION_ENTROPY] = confidence.entropy
    found[models.GENERATION_LOGPROB] = confidence.logprob
    found[models.GENERATION_LOGPROB_MIN] = confidence.least
    found[models.GENERATION_PERPLEXITY] = confidence.perplexity


def _offsets(loops: list[Decoding], started: float) -> list[int]:
    """Microseconds from the start to the end of each step."""
    return [round((at - started) * 1e6) for loop in loops for at in loop.arrivals]


def _add_gpu(found: dict[str, Any], record: OperationRecord, gpu: Charge) -> None:
    _add(
        found,
        (hardware.GPU_UTILIZATION_MEAN, gpu.utilization_mean),
        (hardware.GPU_UTILIZATION_MAX, gpu.utilization_max),
        (hardware.GPU_MEMORY_MEAN, gpu.memory_mean),
        (hardware.GPU_MEMORY_MAX, gpu.memory_max),
        (hardware.GPU_ENERGY, gpu.energy),
        (hardware.GPU_ENERGY_SOURCE, gpu.energy_source),
        (hardware.GPU_ENERGY_PER_TOKEN, record.gpu_energy_per_token),
        (hardware.GPU_TIME, gpu.gpu_time),
        (hardware.GPU_COST, record.gpu_cost),
    )
