"""Charge each operation that ran in this process with what the GPUs did for it.

One thread looks at the GPUs at a steady pace. Callers only leave notes of starts and ends; an
operation that ended is held until the next look says what it used, and then told of, with the time
at which it really ended. In a forked child the thread starts anew with the first operation, and
what the parent held is the parent's.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from threading import Condition, Event, Thread
from time import perf_counter
from typing import NamedTuple

from llmwatch._guard import Guard
from llmwatch.measure.charge import Charge, Ledger
from llmwatch.measure.machine import Gpu
from llmwatch.measure.record import OperationRecord
from llmwatch.semconv_hardware import ATTRIBUTED_ENERGY, GPU_ENERGY_TO
from llmwatch.signals.context import current_operation
from llmwatch.signals.observed import Observation
from llmwatch.signals.operation import Operation, Signals
from llmwatch.signals.readings import EMBEDDINGS, INFERENCE
from llmwatch.sources.gpu.peaks import Peaks
from llmwatch.sources.gpu.probe import NoGpuError, Probe

_POLL = Guard("gpu.poll")

CHARGED = INFERENCE | {EMBEDDINGS}
"""Operations that run a model; tools and agents are made of other operations."""

HOLD_LIMIT = 30.0
"""Seconds after which an operation is told of without its energy: one beside it still runs."""

WAIT = 1.0
"""Seconds that a flush waits for a poll: a driver may hang."""

HANGS = 5.0
"""Seconds after which a poll is not waited for by those that end: they are told of without it."""

FEW = 10
"""Held operations that one which ends lets go of meanwhile: it must not be held up either."""

MOST_NOTES = 10_000
"""Starts and ends between two polls; were there more, the oldest are forgotten."""

MOST_HELD = 1000
"""Operations that may wait; further ones are told of at once, without their energy."""


class _Held(NamedTuple):
    operation: Operation
    record: OperationRecord

    @property
    def ended(self) -> float:
        """Reading of `perf_counter`."""
        return self.operation.started + self.record.duration


class Attribution:
    """Polls, shares, and completes (`operation.Holder` and `operation.Listener`).

    Args:
        signals: Whose operations are charged.
        probe: What is polled.
        interval: Seconds between two polls.
        price: US dollars for one GPU and hour, if known.

    Cost: 2 µs an operation on the caller's thread; a poll, see `Nvidia`.
    """

    def __init__(
        self, signals: Signals, probe: Probe, interval: float, price: float | None = None
    ) -> None:
        self._signals, self._probe = signals, probe
        self._interval, self._price = interval, price
        self._tickets = count(1)  # which go on in a child: some of the parent's end there too
        self._reset()
        signals.observe(ATTRIBUTED_ENERGY, self._totals)
        signals.listeners += (self,)
        signals.holder = self
        self._start()

    def undo(self) -> None:
        """End the thread, and complete everything with what is known."""
        self._signals.holder = None
        self._signals.listeners = tuple(
            each for each in self._signals.listeners if each is not self
        )
        if self._pid == os.getpid():
            self.release()
            self._stop = True
            self._wake.set()
            if self._thread is not None:
                self._thread.join(WAIT)

    # --- on the caller's thread ------------------------------------------------------------------

    def started(self, operation: Operation) -> None:
        """See `operation.Listener`: note it, and that it runs inside others."""
        if self._pid != os.getpid():
            self._reset()
            self._start()
        if operation.local and operation.name not in CHARGED:
            return
        outer = current_operation(operation.context)
        while outer is not None:  # what is charged, or paid for elsewhere, is not charged twice
            if outer.ticket:
                self._note(self._ledger.drop, outer.ticket)
                outer.ticket = 0
            outer = current_operation(outer.context)
        if operation.local:
            operation.ticket = next(self._tickets)
            self._note(self._ledger.start, operation.ticket, operation.started)

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        """See `operation.Listener`: what was not held has shared the GPUs all the same."""
        if operation.ticket:
            self._end(operation, record)

    def hold(self, operation: Operation, record: OperationRecord) -> bool:
        """See `operation.Holder`."""
        if not operation.ticket or not self._watching or len(self._held) >= MOST_HELD:
            return False
        if self._pid != os.getpid():  # it began in the parent, and nobody polls here
            return False
        if self._begun != self._done and perf_counter() - self._begun_at > HANGS:
            for ticket in list(self._held)[:FEW]:
                self._complete(ticket, None)
            return False
        self._held[operation.ticket] = _Held(operation, record)
        self._end(operation, record)
        return True

    def _end(self, operation: Operation, record: OperationRecord) -> None:
        tokens = None if record.usage is None else record.usage.output_tokens
        ended = operation.started + record.duration
        self._note(self._ledger.finish, operation.ticket, ended, tokens)
        operation.ticket = 0

    def _note(self, what: Callable[..., None], *arguments: object) -> None:
        self._notes.append((what, arguments))

    # --- on the poller's -------------------------------------------------------------------------

    def release(self) -> None:
        """See `operation.Holder`."""
        if self._pid != os.getpid():
            return
        if self._held:
            with self._changed:
                wanted = self._begun + 1
                self._wake.set()
                self._changed.wait_for(lambda: self._done >= wanted, WAIT)
        for ticket in list(self._held):
            self._complete(ticket, None)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._stop = False
        self._wake = Event()
        self._changed = Condition()
        self._begun = self._done = 0
        """Polls."""
        self._begun_at = 0.0
        self._thread: Thread | None = None
        self._ledger = Ledger()
        self._notes: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque(
            maxlen=MOST_NOTES
        )
        self._held: dict[int, _Held] = {}
        self.peaks = Peaks()
        self._watching = False

    def _start(self) -> None:
        thread = Thread(target=self._run, name="llmwatch-gpu", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: nothing is held then, and nothing charged
            return
        self._thread = thread

    def _run(self) -> None:
        while not self._stop:
            self._wake.clear()
            self._begun_at = perf_counter()
            self._begun += 1
            with _POLL:
                self._poll()
            with self._changed:
                self._done = self._begun
                self._changed.notify_all()
            if not self._stop:
                self._wake.wait(self._interval)

    def _poll(self) -> None:
        at = perf_counter()
        for ticket, charge in self._look(at).items():
            self._complete(ticket, charge)
        for ticket, held in list(self._held.items()):
            if at - held.ended > HOLD_LIMIT:
                self._complete(ticket, None)

    def _look(self, at: float) -> dict[int, Charge | None]:
        seen: Sequence[Gpu] = ()
        with suppress(NoGpuError):
            seen = self._probe.glance()
        self.peaks.note(seen)
        gpus = _counted(seen)
        self._watching = bool(gpus)
        if len(self._notes) == MOST_NOTES:  # some are missing: who runs is not known any more
            self._ledger.forget()
        for _ in range(len(self._notes)):
            what, arguments = self._notes.popleft()
            what(*arguments)
        if gpus:
            self._ledger.poll(at, gpus)
        return self._ledger.settle()

    def _complete(self, ticket: int, charge: Charge | None) -> None:
        held = self._held.pop(ticket, None)
        if held is not None:
            cost = None
            if charge is not None and charge.gpu_time is not None and self._price is not None:
                cost = charge.gpu_time / 3600 * self._price
            record = held.record._replace(gpu=charge, gpu_cost=cost)
            self._signals.complete(held.operation, record)

    def _totals(self) -> list[Observation]:
        if self._pid != os.getpid():
            return []
        totals = self._ledger.totals._asdict()
        return [Observation(joules, {GPU_ENERGY_TO: to}) for to, joules in totals.items() if joules]


def _counted(gpus: Sequence[Gpu]) -> Sequence[Gpu]:
    """Whole GPUs: what their parts use is in there. Parts where there are no wholes."""
    return [gpu for gpu in gpus if gpu.device.parent is None] or gpus
