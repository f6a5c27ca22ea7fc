"""Where a watched model is entered: the one thing that stays in place.

`nn.Module.__call__` calls ``_compiled_call_impl`` of the module's own ``__dict__`` instead of
``_call_impl`` where there is one: that is how `module.compile()` works. The entry lies there.
Unlike a forward hook it sees every ending, KeyboardInterrupt too, changes nothing for
`torch.jit.script` and `torch.compile`, and PyTorch leaves it out of copies and pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import nn

from llmwatch._guard import Guard
from llmwatch.sources.torch_layers.compiled import COMPILED

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.tree import Found
    from llmwatch.sources.torch_layers.watcher import LayerWatcher

_BEGIN = Guard("layers.begin")
_END = Guard("layers.end")


class Kept:
    """What is kept from one sampled forward for the next. Its modules go with the model."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Found | None = None


class Entry(partial):  # type: ignore[type-arg] # generic in its stubs only
    """What lies in the model's ``__dict__``.

    It holds the model weakly, or the model would go only when a garbage collection finds it.
    """

    watcher: LayerWatcher
    model: ref[nn.Module]
    kept: Kept
    beneath: Callable[..., Any] | None
    """What lay there before; None: nothing."""

    @classmethod
    def put(cls, watcher: LayerWatcher, model: nn.Module) -> Entry:
        """Lay an entry of *watcher* before *model*."""
        own = model.__dict__
        kept = Kept()
        entry = cls(_enter, watcher, ref(model), kept, own.get(COMPILED))
        entry.kept = kept
        entry.beneath = own.get(COMPILED)
        entry.model = ref(model)
        own[COMPILED] = entry
        return entry

    # Of a module whose class says by itself what is copied, it may be copied with the rest.
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(self.beneath, memo)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return _unwatched, (self.beneath,)

    def take(self) -> None:
        """Take it away, if it is still on top; else it stays, and passes calls on."""
        self.kept.found = None
        model = self.model()
        if model is None or model.__dict__.get(COMPILED) is not self:
            return
        if self.beneath is None:
            del model.__dict__[COMPILED]
        else:
            model.__dict__[COMPILED] = self.beneath

    @property
    def in_place(self) -> bool:
        """False where `model.compile()` or somebody else has taken the place."""
        model = self.model()
        return model is None or model.__dict__.get(COMPILED) is self


def _unwatched(beneath: Callable[..., Any] | None) -> Callable[..., Any] | None:
    return beneath


def _enter(
    watcher: LayerWatcher,
    model: ref[nn.Module],
    kept: Kept,
    beneath: Callable[..., Any] | None,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """A call of the model."""
    module = model()
    call = module._call_impl if beneath is None else beneath  # type: ignore[union-attr]
    if torch.compiler.is_compiling() or not watcher.schedule.counts():
        return call(*args, **kwargs)
    forward = None
    try:
        with _BEGIN:
            forward = watcher.begin(module, args, kwargs, kept)
        if forward is None:
            return call(*args, **kwargs)
        return forward.run(module, call, args, kwargs)
    finally:
        if forward is not None:
            with _END:
                forward.take()
            with _END:
                watcher.end(forward)
