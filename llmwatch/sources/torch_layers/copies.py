"""Keep what lies in a module's ``__dict__`` out of the replicas that `nn.DataParallel` makes.

A replica gets a copy of that dict, and would call the original's `forward`, on the original's
device. Copies and pickles need no such care: `nn.Module` and our wrappers see to those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from llmwatch._guard import Guard
from llmwatch.patching import Patch, Patches
from llmwatch.sources.torch_layers import registry
from llmwatch.sources.torch_layers.entry import COMPILED, Entry
from llmwatch.sources.torch_layers.swap import FORWARD, Wrapper

_REPLICA = Guard("layers.replica")


def _replicate(
    wrapped: Callable[..., nn.Module], instance: nn.Module, args: Any, kwargs: Any
) -> nn.Module:
    replica = wrapped(*args, **kwargs)
    with _REPLICA:
        clean(replica.__dict__)
    return replica


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
    [Patch("torch.nn.modules.module", "Module._replicate_for_data_parallel", _replicate)],
)


def install() -> None:
    """See to replicas while there are watchers."""
    _patches.install()


def undo() -> None:
    """Stop doing so once there are none."""
    if not registry.living():
        _patches.undo()
