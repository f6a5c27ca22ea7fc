"""What a view shows, as typed records, and the questions it can be asked.

Times are Unix nanoseconds, durations seconds, rates per second; None is the unknown, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from llmwatch.export.store_reader import Attributes, StoredLog, StoredSpan

Outcome = Literal["ok", "error", "left"]
"""Whole; failed; or a stream that the program left before its end."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations count: those that ended from `since` on and before `until`.

    What is None, False or empty does not restrict; nor does what a series does not say of itself
    (a GPU knows no route).
    """

    since: int | None = None
    until: int | None = None
    service: str | None = None
    operation: str | None = None
    model: str | None = None
    route: str | None = None
    errors: bool = False
    text: str = ""
    """Part of an operation's name, model, route, error or id, in any case of letters."""


@dataclass(frozen=True, slots=True)
class OperationRow:
    """All operations of one kind, model and route."""

    operation: str
    model: str | None
    route: str | None
    count: int
    errors: int
    rate: float
    """Operations a second, over the time that the filter spans or in which there were any."""
    duration_p50: float
    duration_p95: float
    ttft_p50: float | None
    """To the first chunk at a client, to the first token of a local model."""
    ttft_p95: float | None
    itl_p50: float | None
    """Median of the medians of the gaps between chunks or tokens."""
    itl_p95: float | None
    """95th percentile of their 95th percentiles."""
    tokens_per_second: float | None
    """Median of the rates of single operations."""
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    """US dollars."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Operations over time, by the slot of time in which they ended; the last may not be over."""

    width: float
    """Seconds of a slot."""
    times: list[int]
    """When each slot begins."""
    rates: list[float]
    """Operations a second."""
    errors: list[float]
    """Those that failed, a second."""
    ttft_p50: list[float | None]
    ttft_p95: list[float | None]
    output_tokens: list[float]
    """Of all operations, a second."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One operation."""

    trace_id: str
    span_id: str
    service: str
    start: int
    duration: float
    operation: str
    model: str | None
    route: str | None
    outcome: Outcome
    error: str | None
    """``error.type``."""
    ttft: float | None
    gap_p50: float | None
    gap_p95: float | None
    input_tokens: int | None
    output_tokens: int | None
    token_rate: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: a gauge's values, or what a sum grew by a second between two points."""

    metric: str
    unit: str
    attributes: Attributes
    service: str
    times: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Request:
    """One operation with all that is known of it."""

    row: RequestRow
    spans: list[StoredSpan]
    """The whole trace, by start: parents, children, layers."""
    tokens: list[float]
    """When each chunk or token came, in seconds from the start; empty without ``timeline=True``."""
    prefill: float | None
    """Seconds that the prompt took, of a local model."""
    machine: list[Series]
    """GPU and host meanwhile."""
    logs: list[StoredLog]


@dataclass(frozen=True, slots=True)
class LayerCell:
    """One cell of the layers' heat map."""

    service: str
    model: str | None
    layer: str
    """Name, as the metric says it."""
    layer_type: str
    phase: str
    device: str | None
    count: int
    mean: float
    """Seconds of one pass."""
    share: float | None
    """Of the forward, from 0 to 1, without the layers in it."""
    block: int | None = None
    """Which of the repeated blocks it is, or is in; None outside them."""


@dataclass(frozen=True, slots=True)
class DriftLight:
    """What a drift monitor last said."""

    service: str
    monitor: str
    model: str | None
    key: str | None
    alarm: bool
    p_value: float | None
    effect: float | None
    centroid: float | None
    embeddings: int | None
    time: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about a layer, or a drift alarm, that was raised and maybe cleared."""

    service: str
    kind: str
    text: str
    raised: int
    cleared: int | None
    attributes: Attributes


class View(Protocol):
    """The questions. Each is answered from the index, in well under a second."""

    def refresh(self) -> bool:
        """Take in what was written since; True if there was anything."""

    def services(self) -> list[str]:
        """All names of services."""

    def operations(self, by: Filter) -> list[OperationRow]:
        """By operation, model and route; the most frequent first."""

    def moments(self, by: Filter, points: int = 120) -> Moments:
        """What they did over time, in at most *points* slots and one."""

    def requests(self, by: Filter, limit: int = 200) -> list[RequestRow]:
        """The latest operations, latest first."""

    def request(self, trace_id: str, span_id: str) -> Request | None:
        """One operation; None if the store no longer has it."""

    def series(self, metrics: list[str], by: Filter, points: int = 300) -> list[Series]:
        """Gauges and sums by name, thinned to about *points* each."""

    def layers(self, by: Filter) -> list[LayerCell]:
        """All cells of the heat map."""

    def drift(self, by: Filter) -> list[DriftLight]:
        """One light a monitor and key."""

    def findings(self, by: Filter) -> list[Finding]:
        """Raised in that time, latest first."""

    def close(self) -> None:
        """Let go of the index."""
