"""When a process ends, and when it forks.

Python's atexit hooks run neither on SIGTERM nor in most children of `multiprocessing`, so the end
is watched in three places. A fork in the midst of another thread's import leaves the child with
half a module for good, so forks wait for what llmwatch imports on its own threads (`importing`);
one in the midst of a request is no better, so forks wait for those too (`sending`).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from llmwatch._guard import Guard

_END = Guard("export.exit")
_FORK = Guard("export.fork")


class ProcessEnd:
    """Calls *finish* when this process ends: at exit, on SIGTERM, at the end of a child.

    SIGTERM is taken only in the main thread and only where nobody handles it; the process still
    dies by it. As with any Python handler, that waits until the main thread is between bytecodes.

    Args:
        finish: Flushes within its own bound. May be called more than once.
        sigterm: Whether to take SIGTERM.
    """

    def __init__(self, finish: Callable[[], object], *, sigterm: bool) -> None:
        self._finish = finish
        self._sigterm = sigterm
        self._watches_children = False

    def install(self) -> None:
        """Start watching."""
        atexit.register(self._at_exit)
        self._watch_children()
        if self._sigterm and _in_main_thread() and _nobody_handles_sigterm():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def forked(self) -> None:
        """In a forked child: it may be one of `multiprocessing`, imported since `install`."""
        self._watch_children()

    def _watch_children(self) -> None:
        """Be called at the beginning of each child of `multiprocessing`, and of this one if it is.

        Not earlier: a child forgets, when it begins, whatever it was to call at its end.
        """
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._watches_children:
            self._watches_children = True
            util.register_after_fork(self, ProcessEnd._watch_this_child)

    def _watch_this_child(self) -> None:
        from multiprocessing.util import Finalize

        Finalize(None, self._at_exit, exitpriority=10)

    def undo(self) -> None:
        """Stop watching; a SIGTERM handler that somebody put over ours stays.

        Off the main thread ours cannot be taken out: it stays, and only ends the process.
        """
        atexit.unregister(self._at_exit)
        self._finish = _nothing
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _at_exit(self) -> None:
        with _END:
            self._finish()
            _keep_interrupt()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us at once
        try:
            self._at_exit()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def _nothing() -> None:
    return None


def _keep_interrupt() -> None:
    """Let a program that Ctrl-C has ended still die by SIGINT, whatever ran in this handler.

    Python remembers an unhandled KeyboardInterrupt until some text is executed next, as modules do
    that are imported to send what is left: it would exit with 1 instead.
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - only this sets it again


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _nobody_handles_sigterm() -> bool:
    handler = signal.getsignal(signal.SIGTERM)
    return handler is signal.SIG_DFL or isinstance(getattr(handler, "__self__", None), ProcessEnd)


class _Unforkable:
    """A block during which no fork happens; any number of threads may be inside.

    A fork waits for them *patience* seconds at the most: the thread inside might wait, for a
    module's own lock or for a server that does not answer, longer than the one that forks may.

    Args:
        patience: Seconds.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._in_child()
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(
                before=self._before, after_in_parent=self._after, after_in_child=self._in_child
            )

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def _before(self) -> None:
        self._changed.acquire()  # held through the fork, so that nobody enters meanwhile
        self._changed.wait_for(lambda: self._inside <= 0, self._patience)

    def _after(self) -> None:
        self._changed.release()

    def _in_child(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0


importing = _Unforkable(2.0)
"""Imports of llmwatch on its own threads, which take a tenth of that."""

sending = _Unforkable(0.25)
"""Requests to a collector. A fork amid one can leave the child a host name resolver that is locked
for ever; over grpc it aborts the child, or sends a batch twice."""

indexing = _Unforkable(2.0)
"""Uses of sqlite, some milliseconds each: what it knows of its open files and their locks must not
be inherited."""


def on_fork(callback: Callable[[], object]) -> Callable[[], None]:
    """Call *callback* in every forked child, after the hooks that were registered before.

    It must not block: no other thread of the parent lives in the child, and whatever lock one
    held is held for ever.

    Returns:
        What takes the callback back; an empty hook stays, as Python offers no way to remove one.
    """
    callbacks = [callback]

    def in_child() -> None:
        for each in callbacks:
            with _FORK:
                each()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)
    return callbacks.clear
