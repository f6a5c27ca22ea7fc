"""The requests of continuous batching that are under way, by who batches them.

Requests are told apart by an id that is one manager's own. An output may be there before its
request is noted here, for another thread generates: then it waits, as long as somebody is adding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, ref

from llmwatch._guard import Foreign
from llmwatch.measure.generation import Decoding
from llmwatch.signals.operation import Operation

_CHILD = "__child#"
"""In the id of a further sequence of a request, behind the request's own."""


class Entry:
    """One request under way.

    Args:
        operation: Its operation.
        added: Clock reading when it had been added.
        wanted: Whether the user wants the times of its tokens.
        left: How many sequences have not ended.
        ends: Ids that end a sequence.
    """

    def __init__(
        self, operation: Operation, added: float, wanted: bool, left: int, ends: frozenset[int]
    ) -> None:
        self.operation = operation
        self.added = added
        self.wanted = wanted
        self.left = left
        self.ends = ends
        self.longest: Decoding | None = None
        self.outputs: list[int] = []
        self.reasons: list[str] = []

    def note(self, output: Any) -> None:
        """Take what one sequence came to."""
        decoding = read_timing(output)
        tokens = output.generated_tokens
        self.outputs.append(len(tokens))
        ended = bool(tokens) and tokens[-1] in self.ends
        self.reasons.append("stop" if ended else "length")
        if self.longest is None or _last(decoding) > _last(self.longest):
            self.longest = decoding
        if (queued := self._queued(output)) is not None and self.operation.queue_time is None:
            self.operation.queue_time = queued

    def finish(self, error: BaseException | None, *, failed: bool, cancelled: bool) -> None:
        """End the operation with what was noted."""
        operation, decoding = self.operation, self.longest
        if decoding is not None:
            decoding.outputs = tuple(self.outputs)
            operation.decodings = [decoding]
        if failed and error is None:
            operation.error_type = "RuntimeError"
        if not failed and not cancelled:
            operation.finish_reasons = self.reasons
        operation.finish(error, ending="cancelled" if cancelled else None)

    def _queued(self, output: Any) -> float | None:
        """Absent where the request waited more than once: only the last time is known then."""
        began = output.lifespan[0]
        times = output.timestamps or ()
        again = output.created_time > self.added or bool(times and began > times[0])
        return None if began < 0 or again else float(began - self.operation.started)


class Book:
    """The requests of one manager.

    Args:
        manager: Who batches them.
    """

    def __init__(self, manager: Any) -> None:
        self.manager = ref(manager)
        self.errors: dict[str, BaseException] = {}
        """Why a request failed, until its output says that it did."""
        self._entries: dict[str, Entry] = {}
        self._lock = Lock()
        self._adding = self._wanting = 0
        self._early: dict[str, list[Any]] = {}

    @contextmanager
    def adding(self, *, wanted: bool) -> Iterator[None]:
        """Say that a request is being added, whose times are *wanted* or not."""
        with self._lock:
            self._adding += 1
            self._wanting += wanted
        try:
            yield
        finally:
            with self._lock:
                self._adding -= 1
                self._wanting -= wanted
                if not self._adding:
                    self._early.clear()

    def put(self, key: str, entry: Entry) -> None:
        """Note a request that has been added."""
        with self._lock:
            self._entries[key] = entry
            early = self._early.pop(key, ())
        for output in early:
            self._end(key, entry, output)

    def take(self, output: Any) -> None:
        """See an output on its way to whoever asked for it."""
        key = output.request_id.partition(_CHILD)[0]
        done = output.is_finished()
        entry = self._entries.get(key)
        if entry is None:
            with self._lock:
                entry = self._entries.get(key)
                if entry is None:
                    if self._adding and done:
                        self._early.setdefault(key, []).append(copy(output))
                    if self._adding and not self._wanting:
                        output.timestamps = None
                    return
        if done:
            self._end(key, entry, output)
        if not entry.wanted:
            output.timestamps = None

    def cancel(self, state: Any) -> None:
        """End a sequence that was cancelled."""
        key = state.request_id.partition(_CHILD)[0]
        if (entry := self._entries.get(key)) is not None:
            entry.left -= int(getattr(state, "num_children", 0))
            self._end(key, entry, state.to_generation_output(), cancelled=True)

    def let_go(self) -> None:
        """Ask for no times any more on behalf of requests that are under way."""
        manager = self.manager()
        if manager is None:
            return
        scheduler = getattr(manager.batch_processor, "scheduler", None)
        states = list(manager.input_queue.queue)
        for name in ("active_requests", "waiting_requests"):
            states += list(getattr(scheduler, name, {}).values())
        for state in states:
            entry = self._entries.get(state.request_id.partition(_CHILD)[0])
            if entry is not None and not entry.wanted:
                state.record_timestamps = False

    def _end(self, key: str, entry: Entry, output: Any, *, cancelled: bool = False) -> None:
        failed = output.error is not None
        entry.note(output)
        entry.left -= 1
        if entry.left > 0 and not failed:
            return
        self._entries.pop(key, None)
        error = self.errors.pop(output.request_id, None)
        entry.finish(error, failed=failed, cancelled=cancelled)


class Books:
    """The books of all managers, each as long as there is somebody who could ask for results."""

    def __init__(self) -> None:
        self._books: WeakKeyDictionary[Any, Book] = WeakKeyDictionary()

    def of(self, manager: Any) -> Book | None:
        """The book of *manager*, opened if need be; None where its release works in another way."""
        router = getattr(manager, "output_router", None)
        if router is None:
            return None
        book = self._books.get(router)
        if book is None:
            book = self._books.setdefault(router, Book(manager))
        return book

    def known(self, router: Any) -> Book | None:
        """The book of whose outputs *router* hands over."""
        return self._books.get(router)

    def scheduled_by(self, scheduler: Any) -> Book | None:
        """The book of whose requests *scheduler* schedules."""
        for book in list(self._books.values()):
            processor = getattr(book.manager(), "batch_processor", None)
            if getattr(processor, "scheduler", None) is scheduler:
                return book
        return None

    def let_go(self) -> None:
        """Let go of every request under way."""
        for book in list(self._books.values()):
            with Foreign():  # the other thread may be at these very lists
                book.let_go()
        self._books.clear()


def read_timing(output: Any) -> Decoding:
    """The tokens of one sequence and their times; no times where some of them are missing."""
    prompt, tokens, times = len(output.prompt_ids), output.generated_tokens, output.timestamps
    begun = output.lifespan[0]
    if times and begun > times[0]:
        begun = times[0]  # it was put off, and taken up again
    decoding = Decoding(begun)
    decoding.start = decoding.prompt_tokens = prompt
    decoding.lengths.extend(range(prompt + 1, prompt + len(tokens) + 1))
    if times is not None and len(times) == len(tokens):
        decoding.arrivals.extend(times)
    return decoding


def _last(decoding: Decoding) -> float:
    return decoding.arrivals[-1] if decoding.arrivals else -1.0
