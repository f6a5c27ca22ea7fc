"""The frozen result of watching one operation.

A record holds what was observed, never what it is called in a backend: names belong to `semconv`.
None means unknown; there is no zero for the unknown.
"""

from __future__ import annotations

from typing import NamedTuple

from llmwatch.measure.charge import Charge
from llmwatch.measure.generation import Generation
from llmwatch.measure.timeline import StreamTiming


class Usage(NamedTuple):
    """Token counts as the server reported them; None where it did not."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    estimated: bool = False
    """True where `output_tokens` was counted from chunks because the server reported nothing."""


class Series(NamedTuple):
    """What tells the metric streams of one operation from those of another: few values each."""

    operation: str
    provider: str
    request_model: str | None = None
    response_model: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    error_type: str | None = None
    extra: tuple[tuple[str, str | int | float | bool], ...] = ()
    """Further allow-listed attributes as (full attribute name, value), sorted by name."""


class OperationRecord(NamedTuple):
    """One finished operation. Times in seconds.

    `ended_at` is Unix time in nanoseconds; `trace_id` and `span_id` are 0 where the span was not
    sampled, so that no exemplar points at a trace that nobody kept.
    """

    series: Series
    duration: float
    ended_at: int
    usage: Usage | None = None
    timing: StreamTiming | None = None
    cost: float | None = None
    client_wait: float | None = None
    trace_id: int = 0
    span_id: int = 0
    gpu: Charge | None = None
    gpu_cost: float | None = None
    """US dollars."""
    generation: Generation | None = None
    """Of a model in this process whose tokens were watched."""
    inputs: int | None = None
    """How many texts, pictures, … a model in this process was given; not for generation."""
    queue_time: float | None = None
    """Seconds that it waited before a model in this process began with it."""

    @property
    def gpu_energy(self) -> float | None:
        """Joules that GPUs used for this operation; None where unknown."""
        return None if self.gpu is None else self.gpu.energy

    @property
    def gpu_energy_per_token(self) -> float | None:
        """Joules for each output token; None where either is unknown."""
        energy = self.gpu_energy
        if energy is None or self.usage is None or not self.usage.output_tokens:
            return None
        return energy / self.usage.output_tokens

    @property
    def time_per_output_token(self) -> float | None:
        """TPOT: (last - first output) / (output tokens - 1); None below two tokens.

        Reasoning tokens count only where they were streamed too: otherwise they were made before
        the first chunk, and the time between first and last chunk says nothing of them.
        """
        if self.generation is not None:
            return self.generation.time_per_output_token
        timing, usage = self.timing, self.usage
        if timing is None or usage is None or usage.output_tokens is None:
            return None
        tokens = usage.output_tokens
        if not timing.reasoning_streamed:
            tokens -= usage.reasoning_tokens or 0
        if tokens < 2 or timing.output_span is None:
            return None
        return timing.output_span / (tokens - 1)

    @property
    def output_token_rate(self) -> float | None:
        """Output tokens per second of this one operation; None where unknown.

        A stream is over with its last chunk, however long its consumer then holds it; where chunks
        lay ready for a slow consumer, its rate cannot be known.
        """
        seconds = self.duration if self.timing is None else self.timing.last
        if self.usage is None or not self.usage.output_tokens or not seconds or seconds <= 0:
            return None
        return self.usage.output_tokens / seconds

    @property
    def input_rate(self) -> float | None:
        """Inputs per second; None where their number is unknown."""
        return self.inputs / self.duration if self.inputs and self.duration > 0 else None

    @property
    def padding_rate(self) -> float | None:
        """Slots without a useful token per second of a local generation; None where unknown."""
        padding = None if self.generation is None else self.generation.padding
        return padding / self.duration if padding is not None and self.duration > 0 else None
