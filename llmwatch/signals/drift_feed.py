"""Feed drift monitors with the embeddings that watched calls return.

On the caller's thread a snapshot is taken, no more; a worker turns it into arrays and hands those
to the monitor of their model and dimension. What a full queue leaves out is counted.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry.trace import SpanContext

from llmwatch._guard import Guard
from llmwatch.signals.context import said_of
from llmwatch.signals.snapshots import Snapshot, rows_of
from llmwatch.signals.worker import Worker

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.signals.operation import Operation, Signals

_log = logging.getLogger("llmwatch")
_PUT = Guard("drift.put")
_FEED = Guard("drift.feed")

MOST_WAITING = 4096
"""Vectors in the queue; 50 MB of lists of 1536 numbers."""
MOST_MONITORS = 8
PAUSE = 0.05
"""Seconds that answers gather before they are decoded."""

feed: Feed | None = None
"""Where sources put embeddings; None: nobody wants them. Read it through the module."""


_Answer = tuple[str, int, Snapshot, Mapping[str, Any], SpanContext]
"""Model, how many vectors, those, what was said of the operation, its span's context."""


class Feed:
    """Takes embeddings from watched calls.

    Args:
        setting: A monitor for all of them, or all of its model if it names one; or where monitors
            of their own get their reference.
        share: Of the embeddings, how many are looked at; 0 to 1.
        key: Which of `llmwatch.attributes` is the key of a window; None: none is.
        pooling: How sources make one vector of the hidden states of a text's tokens.

    Raises:
        ConfigError: If the setting has no known form.
    """

    def __init__(
        self,
        setting: DriftMonitor | str,
        share: float,
        key: str | None = None,
        pooling: str = "mean",
    ) -> None:
        from llmwatch.signals.drift_monitors import Opened, check

        self._setting = setting
        self._share = share
        self._key = key
        self.pooling = pooling
        self._random = Random()  # noqa: S311 - chooses a sample
        self._queue: deque[_Answer] = deque()
        self._waiting = 0
        self.monitors: Opened[tuple[str, int]] = Opened(MOST_MONITORS)
        """By model and dimension."""
        self.left_out = self._told = self._unreadable = 0
        mine = ref(self)  # a cycle would keep monitors that nobody uses any more among the living

        def work() -> None:
            if (living := mine()) is not None:
                living.flush()

        self._worker = Worker(work, PAUSE)
        self._turn = Lock()
        if isinstance(setting, str):
            check(setting)  # here, not in the worker

    def install(self, _: Signals) -> None:
        """Be the one that sources feed."""
        global feed
        feed = self

    def put(self, operation: Operation, vectors: Sequence[Any]) -> None:
        """Take what one operation returned: lists of numbers, base64, or anything array-like.

        Where they do not all find room in the queue, a random part of them is taken.

        Cost: 2 µs, and 3 µs for each list of 1536 numbers: a copy of it.
        """
        with _PUT:
            wanted = self._drawn(len(vectors))
            chosen = [vectors[row] for row in wanted]
            copies = [each if isinstance(each, str) else each[:] for each in chosen]
            if copies:
                self._enqueue(operation, len(copies), lambda: copies)

    def put_matrix(self, operation: Operation, matrix: Any) -> None:
        """Take the rows of a numpy array or a torch tensor, shape ``(n, d)``.

        Cost: see `rows_of`.
        """
        with _PUT:
            many = len(matrix)
            if wanted := self._drawn(many):
                rows = None if len(wanted) == many else wanted
                self._enqueue(operation, len(wanted), rows_of(matrix, rows))

    def put_body(
        self, operation: Operation, body: bytes, many: int, read: Callable[[bytes], list[Any]]
    ) -> None:
        """Take vectors out of an answer as it came: *read* is called on the worker.

        Nobody can change bytes, so they need not be copied.

        Args:
            operation: Whose answer it is.
            body: The answer.
            many: How many vectors it holds.
            read: Finds them, as `put` takes them.

        Cost: 2 µs.
        """
        with _PUT:
            if wanted := self._drawn(many):
                self._enqueue(
                    operation,
                    len(wanted),
                    lambda: [each for row, each in enumerate(read(body)) if row in wanted],
                )

    def _drawn(self, many: int) -> Sequence[int]:
        """Which of *many* vectors are looked at: a sample, and what there is room for."""
        wanted: Sequence[int] = range(many)
        if self._share < 1:
            wanted = [row for row in wanted if self._random.random() < self._share]
        if (room := max(MOST_WAITING - self._waiting, 0)) < len(wanted):
            self.left_out += len(wanted) - room
            wanted = sorted(self._random.sample(wanted, room))
        return wanted

    def _enqueue(self, operation: Operation, many: int, vectors: Snapshot) -> None:
        model = operation.response_model or operation.request_model or ""
        context = operation.span.get_span_context()
        # A plain tuple, because a named one takes three times as long to make.
        self._queue.append((model, many, vectors, operation.extra, context))
        self._waiting += many
        self._worker.wake()

    def flush(self) -> None:
        """Hand on everything that waits."""
        with self._turn:
            while self._queue:
                answer = self._queue.popleft()
                self._waiting -= answer[1]
                with _FEED:
                    self._hand_on(answer)

    def undo(self) -> None:
        """Take nothing more."""
        global feed
        if feed is self:
            feed = None
        self.flush()
        self._worker.close()

    def reset(self) -> None:
        """Forget what waits: in a forked child it is the parent's."""
        self._queue.clear()
        self._waiting = 0
        self._turn = Lock()
        self._worker.reset()

    def _hand_on(self, answer: _Answer) -> None:
        import numpy as np

        from llmwatch.drift.intake import own_vector

        model, _, vectors, said, context = answer
        session, key = said_of(said, "session"), said_of(said, self._key)
        trace = f"{context.trace_id:032x}" if context.trace_flags.sampled else ""
        by_length: dict[int, list[Any]] = {}
        for vector in vectors():
            try:
                row = own_vector(b64decode(vector) if isinstance(vector, str) else vector)
            except (ValueError, TypeError):
                self._unreadable += 1
            else:
                by_length.setdefault(len(row), []).append(row)
        for length, rows in by_length.items():
            monitor = self._monitor(model, length)
            if monitor is not None and self._is_of(monitor, model, len(rows)):
                if lost := self.left_out - self._told:
                    self._told += lost
                    monitor.leave_out("overflow", lost)
                if lost := self._unreadable:
                    self._unreadable = 0
                    monitor.leave_out("unreadable", lost)
                monitor.add(np.stack(rows), key=key, session=session, trace=trace)

    def _is_of(self, monitor: DriftMonitor, model: str, many: int) -> bool:
        """Whether a monitor that names its model watches this one; if not, that is counted."""
        if not monitor.model or not model or monitor.model == model:
            return True
        if not monitor.invalid["model"]:
            _log.warning(
                "drift monitor %r watches model %r and was given embeddings of %r: those are left "
                "out and counted; give them a monitor of their own, or this one no model",
                monitor.name,
                monitor.model,
                model,
            )
        monitor.leave_out("model", many)
        return False

    def _monitor(self, model: str, dimension: int) -> DriftMonitor | None:
        if not isinstance(self._setting, str):
            return self._setting
        name = model or "embeddings"
        if any(other == model and many != dimension for other, many in self.monitors):
            name = f"{name} ({dimension})"
        return self.monitors.of((model, dimension), name, model, self._setting)
