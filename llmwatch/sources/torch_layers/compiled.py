"""What of a module is compiled or scripted, and so must not be touched."""

from __future__ import annotations

from itertools import chain, takewhile
from types import FunctionType
from typing import Any

import torch
from torch import nn

COMPILED = "_compiled_call_impl"
"""Where a module keeps what `module.compile()` made of it, in its dict."""

FORWARD = "forward"
"""Where a method of that name lies that is the module's own, in its dict."""

_CALLS = ("__call__", "_wrapped_call_impl", "_call_impl")


def is_compiler(held: Any) -> bool:
    """Whether what lies in the place of `module.compile()` is of it, and not a watcher of ours."""
    return held is not None and getattr(held, "beneath", held) is not None


def is_compiled(module: nn.Module) -> bool:
    """Whether `module.compile()` was called."""
    return is_compiler(module.__dict__.get(COMPILED))


def is_opaque(module: nn.Module) -> bool:
    """Whether nothing inside it may be touched."""
    return (
        is_compiled(module)
        or isinstance(module, torch.jit.ScriptModule)
        or is_optimized(module)
        or calls_compiled(module)
    )


def calls_compiled(module: nn.Module) -> bool:
    """Whether something that `torch.compile` made of a function is a method of it.

    What that calls of the modules inside is compiled with it.
    """
    classes = takewhile(lambda each: each is not nn.Module, type(module).__mro__)
    return any(map(is_compiled_function, chain(*(vars(each).values() for each in classes)))) or any(
        map(is_compiled_function, module.__dict__.values())
    )


def is_compiled_function(held: Any) -> bool:
    """Whether it is what `torch.compile(function)` returns.

    But for what is made of a module's own ``__call__``, as transformers does: we are inside that,
    and it sees to us.
    """
    if not isinstance(held, FunctionType) or hasattr(held, "_torchdynamo_disable"):
        return False
    original = getattr(held, "_torchdynamo_orig_callable", None)
    return original is not None and getattr(original, "__name__", "") not in _CALLS


def is_optimized(module: nn.Module) -> bool:
    """Whether it is what `torch.compile(module)` returns."""
    return hasattr(type(module), "_opt_mod_attributes")
