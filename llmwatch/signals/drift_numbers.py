"""Feed drift monitors with numbers of finished operations: lengths, latencies, refusals.

Operations that failed, and streams that nobody read to their end, say nothing of how long answers
are: only whether they were refused is taken of them, where an error says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.errors import ConfigError
from llmwatch.measure.record import OperationRecord
from llmwatch.signals.context import said_of
from llmwatch.signals.drift_monitors import Opened, check
from llmwatch.signals.worker import Worker

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.signals.operation import Operation, Signals

_FEED = Guard("drift.numbers")

MOST_WAITING = 4096
MOST_MONITORS = 64
"""Operations, models and numbers together."""
PAUSE = 0.05
"""Seconds that operations gather before they are looked at."""
REFUSALS: Final = frozenset(("content_filter", "refusal"))
"""Finish reasons, and codes of errors, of an answer that was refused."""


class _Finished(NamedTuple):
    record: OperationRecord
    whole: bool
    refused: bool | None
    session: str | None
    key: str | None


def _output_tokens(record: OperationRecord) -> int | None:
    usage = record.usage
    return None if usage is None or usage.estimated else usage.output_tokens


def _time_to_first_token(record: OperationRecord) -> float | None:
    if record.generation is not None:
        return record.generation.time_to_first_token
    return None if record.timing is None else record.timing.time_to_first_output


def _logprob(record: OperationRecord) -> float | None:
    found = None if record.generation is None else record.generation.confidence
    return None if found is None else found.logprob


def _entropy(record: OperationRecord) -> float | None:
    found = None if record.generation is None else record.generation.confidence
    return None if found is None else found.entropy


READERS: Final[dict[str, Callable[[OperationRecord], float | None]]] = {
    "input_tokens": lambda record: None if record.usage is None else record.usage.input_tokens,
    "output_tokens": _output_tokens,
    "duration": lambda record: record.duration,
    "time_to_first_token": _time_to_first_token,
    "time_per_output_token": lambda record: record.time_per_output_token,
    "logprob": _logprob,
    "entropy": _entropy,
}
REFUSED: Final = "refused"
NAMES: Final = (*READERS, REFUSED)
"""What ``drift_numbers`` may name."""


class Numbers:
    """Takes numbers from finished operations; a listener of `Signals`.

    Args:
        wanted: Which numbers, and where each gets its reference: see `NAMES` and `DriftMonitor`.
        key: Which of `llmwatch.attributes` is the key of a window; None: none is.

    Raises:
        ConfigError: If one has no known name, or a reference no known form.
    """

    def __init__(self, wanted: Mapping[str, DriftMonitor | str], key: str | None = None) -> None:
        for name, setting in wanted.items():
            if name not in NAMES:
                known = ", ".join(map(repr, NAMES))
                raise ConfigError(f"drift_numbers={name!r} cannot be used: give some of {known}.")
            if isinstance(setting, str):
                check(setting)
        self._wanted = dict(wanted)
        self._key = key
        self.monitors: Opened[tuple[str, str, str]] = Opened(MOST_MONITORS)
        """By operation, model and number."""
        self.left_out = self._told = 0
        self._queue: deque[_Finished] = deque()
        mine = ref(self)  # a cycle would keep monitors that nobody uses any more among the living

        def work() -> None:
            if (living := mine()) is not None:
                living.flush()

        self._worker = Worker(work, PAUSE)
        self._turn = Lock()

    def install(self, signals: Signals) -> None:
        """Be told of operations."""
        signals.listeners += (self,)

    def started(self, operation: Operation) -> None:
        """Nothing is known yet."""

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        """Keep what the operation tells, for the worker. Cost: 2 µs."""
        if len(self._queue) >= MOST_WAITING:
            self.left_out += 1
            return
        whole = record.series.error_type is None and operation.ending in (None, "exhausted")
        self._queue.append(
            _Finished(
                record,
                whole,
                _refused(operation, whole=whole),
                said_of(operation.extra, "session"),
                said_of(operation.extra, self._key),
            )
        )
        self._worker.wake()

    def flush(self) -> None:
        """Hand on everything that waits."""
        with self._turn:
            while self._queue:
                each = self._queue.popleft()
                with _FEED:
                    self._hand_on(each)

    def undo(self) -> None:
        """Hand on the rest, and end the worker."""
        self.flush()
        self._worker.close()

    def reset(self) -> None:
        """Forget what waits: in a forked child it is the parent's."""
        self._queue.clear()
        self._turn = Lock()
        self._worker.reset()

    def _hand_on(self, finished: _Finished) -> None:
        record = finished.record
        trace = f"{record.trace_id:032x}" if record.trace_id else ""
        for name, setting in self._wanted.items():
            value = _value(name, finished)
            if value is None:
                continue
            monitor = self._monitor(name, setting, record)
            if monitor is not None:
                if lost := self.left_out - self._told:
                    self._told += lost
                    monitor.leave_out("overflow", lost)
                monitor.add(value, key=finished.key, session=finished.session, trace=trace)

    def _monitor(
        self, name: str, setting: DriftMonitor | str, record: OperationRecord
    ) -> DriftMonitor | None:
        if not isinstance(setting, str):
            return setting
        # The model that was asked for: what a provider puts behind its name is what may drift.
        operation, model = record.series.operation, record.series.request_model
        model = model or record.series.response_model or ""
        return self.monitors.of((operation, model, name), f"{operation} {name}", model, setting)


def _value(name: str, finished: _Finished) -> float | None:
    if name == REFUSED:
        return finished.refused
    return READERS[name](finished.record) if finished.whole else None


def _refused(operation: Operation, *, whole: bool) -> bool | None:
    """Whether an answer was refused; None: nothing says why it ended."""
    reasons: Any = operation.finish_reasons or ()
    if operation.refused or not REFUSALS.isdisjoint(reasons):
        return True
    if operation.attributes.get(semconv.ERROR_CODE) in REFUSALS:
        return True
    return False if reasons and whole else None
