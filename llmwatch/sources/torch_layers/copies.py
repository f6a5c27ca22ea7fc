"""Keep what lies in a module's ``__dict__`` out of what PyTorch makes of the module.

A replica of `nn.DataParallel` and a copy get a copy of that dict, and would call the original's
`forward`, on the original's device; `torch.jit.script` and `torch.compile` would try to compile
what is in there. Of a
module whose class says by itself what is copied, our wrappers see to deep copies and pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from llmwatch._guard import Guard
from llmwatch.patching import Patch, Patches
from llmwatch.sources.torch_layers import registry
from llmwatch.sources.torch_layers.compiled import COMPILED, FORWARD
from llmwatch.sources.torch_layers.entry import Entry
from llmwatch.sources.torch_layers.wrapper import Wrapper

_REPLICA = Guard("layers.replica")
_COPY = Guard("layers.copy")
_COMPILE = Guard("layers.compile")
_SCRIPT = Guard("layers.script")


def _replicate(
    wrapped: Callable[..., nn.Module], instance: nn.Module, args: Any, kwargs: Any
) -> nn.Module:
    replica = wrapped(*args, **kwargs)
    with _REPLICA:
        clean(replica.__dict__)
    return replica


def _state(wrapped: Callable[..., Any], instance: nn.Module, args: Any, kwargs: Any) -> Any:
    state = wrapped(*args, **kwargs)
    with _COPY:
        clean(state)
    return state


def _script(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    own: dict[str, Any] = {}
    held: dict[str, Any] = {}
    with _SCRIPT:
        own = args[0].__dict__
        held = {key: own[key] for key in (FORWARD, COMPILED) if key in own}
        clean(own)
    try:
        return wrapped(*args, **kwargs)
    finally:
        with _SCRIPT:
            own.update(held)


def _compile(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    with _COMPILE:
        for each in registry.living():
            each.compiling()
    return wrapped(*args, **kwargs)


def clean(own: dict[str, Any]) -> None:
    """Take everything of ours out of the copy of a module's dict."""
    for key in (FORWARD, COMPILED):
        held = own.get(key)
        while isinstance(held, (Entry, Wrapper)):
            held = held.beneath
        if held is not None:
            own[key] = held
        elif key in own:
            del own[key]


_patches = Patches(
    "layers",
    [
        Patch("torch.nn.modules.module", "Module._replicate_for_data_parallel", _replicate),
        Patch("torch.nn.modules.module", "Module.__getstate__", _state, optional=True),
        Patch(
            "torch._dynamo.callback",
            "CompilationCallbackHandler.install_callbacks",
            _compile,
            optional=True,
        ),
        Patch("torch.jit._recursive", "infer_concrete_type_builder", _script, optional=True),
    ],
)


def install() -> None:
    """See to them while there are watchers."""
    _patches.install()


def undo() -> None:
    """Stop doing so once there are none."""
    if not registry.living():
        _patches.undo()
