"""Put wrappers in place of modules' `forward` for the length of one forward, and take them out.

A wrapper goes into the module's own ``__dict__``, under ``forward``, or under
``_compiled_call_impl`` where the module was compiled: `nn.Module.__call__` looks there first. What
lay there before (accelerate puts something there) is put back, unless somebody else has replaced
ours meanwhile. A copy or a pickle that is made of a module meanwhile has no wrapper in it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import perf_counter_ns
from typing import Any
from weakref import ref

from torch import nn

from llmwatch._guard import Guard
from llmwatch.sources.torch_layers.select import COMPILED, is_compiled
from llmwatch.sources.torch_layers.tape import Tape

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")

FORWARD = "forward"


class Shared:
    """What all wrappers of one watcher look at: the forward that is sampled now, if any."""

    __slots__ = ("tape",)

    def __init__(self) -> None:
        self.tape: Tape | None = None


NOBODY = Shared()
"""What a wrapper looks at that is no longer ours."""


class Slot:
    """One layer's wrapper, made once and used for every sampled forward.

    Args:
        number: The layer's number.
        shared: Where the forward that is sampled is found.
        module: The layer.
    """

    __slots__ = ("inherited", "key", "module", "number", "original", "placed", "shared", "wrapper")

    def __init__(self, number: int, shared: Shared, module: nn.Module) -> None:
        self.number = number
        self.shared = shared
        self.module = ref(module)
        self.key = FORWARD
        self.inherited = True
        """Whether there was nothing in the module's own dict."""
        self.placed = False
        self.original: Callable[..., Any] | None = None
        """What is beneath the wrapper while it is in place: held longer, it keeps the module."""
        self.wrapper = Wrapper(_watched, self)

    def put(self, module: nn.Module) -> None:
        """Put the wrapper in place. Cost: 0.5 µs."""
        own = module.__dict__
        # Most have nothing there, and a look costs less than a call.
        compiled = own.get(COMPILED) is not None and is_compiled(module)
        self.key = COMPILED if compiled else FORWARD
        self.inherited = self.key not in own
        self.original = module.forward if self.inherited else own[self.key]
        self.placed = True
        own[self.key] = self.wrapper

    def take(self) -> Slot:
        """Take it out again, if it still is in place; may be done twice.

        Returns:
            The slot to be used from now on: another one where somebody has put something over our
            wrapper, and may call it for ever.
        """
        if not self.placed:
            return self
        self.placed = False
        module, original = self.module(), self.original
        if self.inherited:
            self.original = None
        if module is None:
            return self
        if module.__dict__.get(self.key) is not self.wrapper:
            shared, self.shared = self.shared, NOBODY
            return Slot(self.number, shared, module)
        if self.inherited:
            del module.__dict__[self.key]
        else:
            module.__dict__[self.key] = original
            self.original = None
        return self

    def beneath(self) -> Callable[..., Any]:
        """What the module does without us, for a call that came when we were taken out just now.

        Also for whoever has put something over us: then we were put over the class's own.
        """
        module = self.module()
        assert module is not None  # it is being called
        found = module.__dict__.get(self.key) if self.shared is not NOBODY else None
        return _of_class(module) if found is None or found is self.wrapper else found


class Wrapper(partial):  # type: ignore[type-arg] # generic in its stubs only
    """Called like a function; copied and pickled as what it stands for."""

    @property
    def beneath(self) -> Callable[..., Any] | None:
        """What it was put over; None: nothing, the class's own."""
        slot: Slot = self.args[0]
        return None if slot.inherited else slot.original

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        slot: Slot = self.args[0]
        return _unwatched, (slot.module(), self.beneath)


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


def _watched(slot: Slot, /, *args: Any, **kwargs: Any) -> Any:
    """A layer's call, while a forward is sampled. Only its own thread is measured."""
    original = slot.original
    if original is None:
        original = slot.beneath()
    tape = slot.shared.tape
    if tape is None or tape.thread != get_ident():
        return original(*args, **kwargs)
    if tape.looks:
        return _looked_at(slot, tape, original, args, kwargs)
    append, number = tape.append, slot.number
    if append is not None:
        append(number)
        append(perf_counter_ns())
        try:
            return original(*args, **kwargs)
        finally:
            append(~number)
            append(perf_counter_ns())
    with _MARK:
        tape.mark(number)
    try:
        return original(*args, **kwargs)
    finally:
        with _MARK:
            tape.mark(~number)


def _looked_at(
    slot: Slot,
    tape: Tape,
    original: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    number, module = slot.number, slot.module()
    with _LOOK:
        tape.observe("enter", number, module, args, kwargs)
    with _MARK:
        tape.mark(number)
    try:
        output = original(*args, **kwargs)
    finally:
        with _MARK:
            tape.mark(~number)
    with _LOOK:
        tape.observe("leave", number, module, args, kwargs, output)
    return output
