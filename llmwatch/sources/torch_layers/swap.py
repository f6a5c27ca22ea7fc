"""Put wrappers in place of modules' `forward` for the length of one forward, and take them out.

A wrapper goes into the module's own ``__dict__``, under ``forward``, or under
``_compiled_call_impl`` where the module was compiled: `nn.Module.__call__` looks there first. What
lay there before (accelerate puts something there) is put back, unless somebody else has replaced
ours meanwhile. A copy or a pickle that is made of a module meanwhile has no wrapper in it.

All are put and taken by a few calls into C, as `tree` says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from operator import attrgetter, is_, setitem
from typing import TYPE_CHECKING, Any

from llmwatch.sources.torch_layers.compiled import COMPILED, FORWARD, is_compiled
from llmwatch.sources.torch_layers.wrapper import Timed, kind_for

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.tape import Tape
    from llmwatch.sources.torch_layers.tree import Found

_forward = attrgetter(FORWARD)


class Wrappers:
    """The wrappers of one forward; good for the next one, too, if they `suit` its tape.

    Args:
        tape: Where the forward's marks go.
        found: The modules.

    Cost: 0.3 µs a module to put and take them, and twice that to make them.
    """

    def __init__(self, tape: Tape, found: Found) -> None:
        modules, self._owns = found.modules, found.owns
        numbers = range(1, len(modules) + 1)
        make = kind_for(tape)
        self._over = not found.plain
        """Whether something lies where some of them go."""
        if self._over:
            self._keys = [COMPILED if is_compiled(each) else FORWARD for each in modules]
            beneath = map(dict.get, self._owns, self._keys)
            self._wrappers = [
                make(tape, number, module.forward, module)
                if below is None
                else make(tape, number, below, module, True)
                for number, below, module in zip(numbers, beneath, modules, strict=True)
            ]
        else:
            self._keys = [FORWARD] * len(modules)
            self._wrappers = list(map(make, repeat(tape), numbers, map(_forward, modules), modules))
        self.lasting = not self._over and make is Timed
        """Whether they may be good for another forward."""
        self._thread = tape.thread

    def suit(self, tape: Tape) -> bool:
        """Whether they are what a tape on the same marks needs."""
        return self.lasting and kind_for(tape) is Timed and self._thread == tape.thread

    def put(self) -> bool:
        """Put them in place; False: something had come there, and stays."""
        if self._over:
            _each(setitem, self._owns, self._keys, self._wrappers)
            return True
        there = list(map(dict.setdefault, self._owns, self._keys, self._wrappers))
        return all(map(is_, there, self._wrappers))

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
