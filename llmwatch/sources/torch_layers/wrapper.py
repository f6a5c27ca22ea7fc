"""What lies in place of a layer's `forward` while one forward of its model is sampled.

Objects with slots, and no functions or partials: of those, more has to be fetched from memory, and
after some milliseconds of matrix products nothing of ours is in the processor's caches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from torch import nn

from llmwatch._guard import Guard
from llmwatch.sources.torch_layers.compiled import FORWARD
from llmwatch.sources.torch_layers.tape import DeviceTape, Tape

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")


class Wrapper:
    """Called, copied and pickled as what it stands for; has its name and signature, too.

    Args:
        tape: Of the forward that it is made for.
        number: The layer's.
        original: What it calls.
        module: The layer.
        over: Whether it is put over the original; else that is the class's own.
    """

    __slots__ = ("module", "number", "original", "over")  # no more: they lie side by side

    def __init__(
        self,
        tape: Tape,
        number: int,
        original: Callable[..., Any],
        module: nn.Module,
        over: bool = False,
    ) -> None:
        self.number = number
        self.original = original
        self.module = module
        self.over = over

    @property
    def beneath(self) -> Callable[..., Any] | None:
        """What it was put over; None: nothing."""
        return self.original if self.over else None

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return _unwatched, (self.module, self.beneath)

    # Not by `__getattr__`, which would make each attribute dearer.
    __wrapped__ = property(attrgetter("original"))
    __self__ = property(attrgetter("original.__self__"))
    __func__ = property(attrgetter("original.__func__"))
    __name__ = property(attrgetter("original.__name__"))
    __code__ = property(attrgetter("original.__code__"))
    __globals__ = property(attrgetter("original.__globals__"))
    __defaults__ = property(attrgetter("original.__defaults__"))
    __kwdefaults__ = property(attrgetter("original.__kwdefaults__"))


class Timed(Wrapper):
    """By the host's clock. A call on another thread is only passed on.

    Nothing else of ours tells threads apart as fast; and a `ContextVar` would be copied into
    whatever threads a forward has work done by. A call that comes too late writes what nobody
    reads.
    """

    __slots__ = ("append", "thread")

    def __init__(
        self,
        tape: Tape,
        number: int,
        original: Callable[..., Any],
        module: nn.Module,
        over: bool = False,
    ) -> None:
        self.append = tape.append
        self.thread = tape.thread
        self.number = number
        self.original = original
        self.module = module
        self.over = over

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call."""
        if get_ident() != self.thread:
            return self.original(*args, **kwargs)
        append = self.append  # it cannot fail, and so needs no guard
        append(self.number)
        append(perf_counter_ns())
        try:
            return self.original(*args, **kwargs)
        finally:
            append(~self.number)
            append(perf_counter_ns())


class Marked(Wrapper):
    """By a device's clock, too."""

    __slots__ = ("tape",)

    def __init__(self, tape: Tape, *args: Any) -> None:
        super().__init__(tape, *args)
        self.tape = tape

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call."""
        tape = self.tape
        if get_ident() != tape.thread:
            return self.original(*args, **kwargs)
        with _MARK:
            tape.mark(self.number)
        try:
            return self.original(*args, **kwargs)
        finally:
            with _MARK:
                tape.mark(~self.number)


class LookedAt(Marked):
    """While somebody looks at what goes in and comes out."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call."""
        tape, number, module = self.tape, self.number, self.module
        if get_ident() != tape.thread:
            return self.original(*args, **kwargs)
        with _LOOK:
            tape.observe("enter", number, module, args, kwargs)
        with _MARK:
            tape.mark(number)
        try:
            output = self.original(*args, **kwargs)
        finally:
            with _MARK:
                tape.mark(~number)
        with _LOOK:
            tape.observe("leave", number, module, args, kwargs, output)
        return output


def kind_for(tape: Tape) -> type[Wrapper]:
    """Which of them a tape needs."""
    if tape.looks:
        return LookedAt
    return Marked if isinstance(tape, DeviceTape) else Timed


def _unwatched(module: nn.Module, original: Callable[..., Any] | None) -> Callable[..., Any]:
    return original or _of_class(module)


def _of_class(module: nn.Module) -> Callable[..., Any]:
    kind = type(module)
    for each in kind.__mro__:
        if FORWARD in vars(each):
            with suppress(AttributeError):  # a scripted module's is found by its __getattr__
                return vars(each)[FORWARD].__get__(module, kind)  # type: ignore[no-any-return]
            break
    return module.__getattr__(FORWARD)  # type: ignore[no-any-return]
