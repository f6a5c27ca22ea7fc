"""Put wrappers in place of modules' `forward` for the length of one forward, and take them out.

A wrapper goes into the module's own ``__dict__``, under ``forward``, or under
``_compiled_call_impl`` where the module was compiled: `nn.Module.__call__` looks there first. What
lay there before (accelerate puts something there) is put back, unless somebody else has replaced
ours meanwhile. A copy or a pickle that is made of a module meanwhile has no wrapper in it.

All are put and taken by a few calls into C: after some milliseconds of matrix products nothing of
ours is in the processor's caches, and each line of Python then costs ten times what it seems to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from operator import attrgetter, is_, setitem
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from torch import nn

from llmwatch._guard import Guard
from llmwatch.sources.torch_layers.select import COMPILED, FORWARD, is_compiled
from llmwatch.sources.torch_layers.tape import Append, DeviceTape, Tape

_MARK = Guard("layers.mark")
_LOOK = Guard("layers.look")


_own = attrgetter("__dict__")
_forward = attrgetter(FORWARD)


class Wrapper(partial):  # type: ignore[type-arg] # generic in its stubs only
    """Called like a function; copied and pickled as what it stands for.

    Its arguments: the tape of the forward that it was made for, or what writes on it and on which
    thread; the layer's number, what it calls, and the module.
    """

    @property
    def beneath(self) -> Callable[..., Any] | None:
        """What it was put over; None: nothing, the class's own."""
        return None

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return _unwatched, (self.args[-1], self.beneath)


class Over(Wrapper):
    """A wrapper that was put over something."""

    @property
    def beneath(self) -> Callable[..., Any] | None:
        """As above."""
        original: Callable[..., Any] = self.args[-2]
        return original


class Wrappers:
    """The wrappers of one forward, made anew for each.

    Args:
        tape: Where the forward's marks go.
        modules: The watched modules, by number; the first is the model, which gets none.
        plain: Whether none of them was compiled.

    Cost: 0.3 µs a module, to make, put and take.
    """

    def __init__(self, tape: Tape, modules: Sequence[nn.Module], *, plain: bool) -> None:
        self.tape = tape
        modules = modules[1:]
        numbers = range(1, len(modules) + 1)
        first = _function_for(tape)
        make = partial(Wrapper, *first)
        self._owns: list[dict[str, Any]] = list(map(_own, modules))
        self._over = not plain or any(map(dict.__contains__, self._owns, repeat(FORWARD)))
        """Whether something lies where some of them go."""
        if self._over:
            self._keys = [COMPILED if is_compiled(each) else FORWARD for each in modules]
            beneath = map(dict.get, self._owns, self._keys)
            self._wrappers = [
                make(number, module.forward, module)
                if below is None
                else Over(*first, number, below, module)
                for number, below, module in zip(numbers, beneath, modules, strict=True)
            ]
        else:
            self._keys = [FORWARD] * len(modules)
            self._wrappers = list(map(make, numbers, map(_forward, modules), modules))

    def put(self) -> None:
        """Put them in place."""
        _each(setitem, self._owns, self._keys, self._wrappers)

    def take(self) -> None:
        """Take those out that still are in place; may be done twice."""
        owns, keys, wrappers = self._owns, self._keys, self._wrappers
        # By identity: a proxy that somebody put over ours equals it.
        if not self._over and all(map(is_, map(dict.get, owns, keys), wrappers)):
            _each(dict.pop, owns, keys, repeat(None))
            return
        for own, key, wrapper in zip(owns, keys, wrappers, strict=True):
            if own.get(key) is wrapper:
                _put_back(own, key, wrapper.beneath)


def _put_back(own: dict[str, Any], key: str, beneath: Callable[..., Any] | None) -> None:
    if beneath is None:
        own.pop(key, None)  # another thread may take them out, too
    else:
        own[key] = beneath


def _each(function: Callable[..., Any], *arguments: Iterable[Any]) -> None:
    """Call it with each, in one go: no signal comes between."""
    deque(map(function, *arguments), maxlen=0)


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


# --- a layer's call, while a forward is sampled --------------------------------------------------


def _function_for(tape: Tape) -> tuple[Any, ...]:
    """What a layer's call runs, and its first arguments."""
    if tape.looks:
        return _looked_at, tape
    if isinstance(tape, DeviceTape):
        return _marked, tape
    return _watched, tape.append, tape.thread


def _watched(
    append: Append,
    thread: int,
    number: int,
    original: Callable[..., Any],
    module: nn.Module,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """By the host's clock. Another thread's is only passed on.

    Nothing else of ours tells threads apart as fast when it is not in the processor's caches; and
    a `ContextVar` would be copied into whatever threads a forward has work done by. A call that
    comes too late is noted, and the tape ignores it.
    """
    if get_ident() != thread:
        return original(*args, **kwargs)
    append(number)  # it cannot fail, and so needs no guard
    append(perf_counter_ns())
    try:
        return original(*args, **kwargs)
    finally:
        append(~number)
        append(perf_counter_ns())


def _marked(
    tape: Tape,
    number: int,
    original: Callable[..., Any],
    module: nn.Module,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """By a device's clock, too."""
    if get_ident() != tape.thread:
        return original(*args, **kwargs)
    with _MARK:
        tape.mark(number)
    try:
        return original(*args, **kwargs)
    finally:
        with _MARK:
            tape.mark(~number)


def _looked_at(
    tape: Tape,
    number: int,
    original: Callable[..., Any],
    module: nn.Module,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """While somebody looks at what goes in and comes out."""
    if get_ident() != tape.thread:
        return original(*args, **kwargs)
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
