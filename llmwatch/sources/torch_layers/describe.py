"""What a model is given, and what for: shapes, tokens, phase, device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from weakref import ref

import torch
from torch import nn

from llmwatch.signals import active
from llmwatch.signals.context import current_operation


def phase_of(kwargs: Mapping[str, Any]) -> str:
    """``prefill`` or ``decode`` inside a generation, else ``forward``. Cost: 1 µs.

    The watched operation says it; where there is none, a cache of keys and values does, but for one
    that keeps its length on the device.
    """
    if active.signals is not None:
        operation = current_operation()
        if operation is not None and operation.phase is not None:
            return operation.phase
    cache = kwargs.get("cache")  # its name from transformers 5.24 on, and of other things elsewhere
    if not hasattr(cache, "get_seq_length"):
        cache = kwargs.get("past_key_values")
    if cache is None:
        return "forward"
    if not hasattr(cache, "get_seq_length"):
        return "decode"  # tuples, as of old: there are none before there is something in them
    length = cached_length(cache)
    return "forward" if length is None else "decode" if length else "prefill"


def cached_length(cache: Any) -> int | None:
    """Tokens that a cache of keys and values holds; None: not known, or only by the device.

    A static cache counts in a tensor: to read that would be to wait for the device.
    """
    try:
        length = cache.get_seq_length()
    except (AttributeError, TypeError, ValueError):  # a cache of layers that have no such length
        return None
    return length if isinstance(length, int) else None


def is_traced() -> bool:
    """Whether this forward is traced: it takes no time of its own."""
    return torch._C._get_tracing_state() is not None


def tensors(value: Any, depth: int = 2) -> Iterator[torch.Tensor]:
    """The tensors in arguments or a result, not looking deeper than that."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each, depth - 1)
    elif depth and isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each, depth - 1)


def first_tensor(module: nn.Module) -> torch.Tensor | None:
    """A parameter or buffer of a module, preferably one of its own."""
    for found in (module.parameters(), module.buffers()):
        for tensor in found:
            return tensor
    return None


class Anchor:
    """Where a tensor of a model lies, so that it is found again at once. Holds nothing.

    Args:
        model: The model.
        floating: Whether it is to be the first parameter of a floating-point type, not just the
            first.
    """

    def __init__(self, model: nn.Module, *, floating: bool = False) -> None:
        self._owner: ref[nn.Module] | None = None
        self._key = ""
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                return  # it keeps them elsewhere
            for key, tensor in module._parameters.items():
                if tensor is not None and (tensor.is_floating_point() or not floating):
                    self._owner, self._key = ref(module), key
                    return

    def tensor(self) -> torch.Tensor | None:
        """What lies there now; None: nothing, or only a stand-in."""
        owner = None if self._owner is None else self._owner()
        found = None if owner is None else owner._parameters.get(self._key)
        return None if found is None or found.is_meta else found


def device_of(module: nn.Module, fallback: torch.device) -> torch.device:
    """Where a module runs; *fallback* for one that has neither parameters nor buffers."""
    tensor = first_tensor(module)
    if tensor is None:
        return fallback
    return (_brought_to(module) if tensor.is_meta else None) or tensor.device


def _brought_to(module: nn.Module) -> torch.device | None:
    """Where accelerate brings weights that it keeps elsewhere between calls; None: it does not."""
    for each in module.modules():
        hook = each.__dict__.get("_hf_hook")
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return None


def dtype_of(module: nn.Module) -> str | None:
    """Type of the first floating-point parameter."""
    for tensor in module.parameters():
        if tensor.is_floating_point():
            return name_of_dtype(tensor.dtype)
    return None


@cache
def name_of_dtype(dtype: torch.dtype) -> str:
    """``float32`` and the like."""
    return str(dtype).removeprefix("torch.")


def name_of(module: nn.Module) -> str:
    """What a model is called: where it was loaded from, else its class."""
    name = getattr(getattr(module, "config", None), "_name_or_path", None)
    return name if isinstance(name, str) and name else type(module).__name__
