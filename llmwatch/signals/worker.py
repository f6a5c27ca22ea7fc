"""A daemon thread that does one thing whenever it is told to."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Lock, Thread, current_thread

from llmwatch._guard import Guard

_WORK = Guard("metrics.worker")


class Worker:
    """Runs *work* on a thread of its own, once each time it is woken.

    Args:
        work: What to do.
        pause: Seconds between waking and working, so that more can gather.
        name: Of the thread.
    """

    def __init__(
        self, work: Callable[[], None], pause: float = 0.0, name: str = "llmwatch-metrics"
    ) -> None:
        self._work = work
        self._pause = pause
        self._name = name
        self._closing = Event()
        self._asked = False
        self.reset()

    def wake(self) -> bool:
        """Ask for work; the first time this starts the thread. False: there can be no thread.

        Cost: 0.1 µs where it is asked for already.
        """
        if self._asked:
            return True
        self._asked = True
        if self._thread is None and not self._start():
            self._asked = False
            return False
        self._bell.put(None)
        return True

    def close(self, timeout: float = 1.0) -> None:
        """End the thread, waiting for it at most *timeout* seconds."""
        self._closing.set()
        self._bell.put(None)
        thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join(timeout)

    def reset(self) -> None:
        """Forget the thread: in a forked child it does not exist."""
        self._thread: Thread | None = None
        self._starting = Lock()
        # Not an Event: a finaliser may ring it while this very thread is waiting for it.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asked = False

    def _start(self) -> bool:
        if not self._starting.acquire(blocking=False):
            return True  # somebody else is at it
        try:
            if self._thread is None:
                thread = Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError:  # no more threads: out of them, or the interpreter is ending
            return False
        finally:
            self._starting.release()
        return True

    def _run(self) -> None:
        bell = self._bell
        while True:
            bell.get()
            if self._closing.wait(self._pause):
                return
            self._asked = False
            with _WORK:
                self._work()
