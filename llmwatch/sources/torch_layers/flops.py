"""FLOPs and bytes of each layer, counted on one forward and then known for all of its shape.

The formulas are those of `torch.utils.flop_counter`. Its `FlopCounterMode` is not used itself: it
hooks the modules of all threads, and so cannot run in a process that serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

from llmwatch._guard import Guard
from llmwatch.measure.work import NOTHING, Amount, Given, Works
from llmwatch.sources.torch_layers.describe import tensors
from llmwatch.sources.torch_layers.observe import Look

if TYPE_CHECKING:
    from llmwatch.measure.layers import Layer, LayerSample

_COUNT = Guard("layers.flops")


PLAIN = (Tensor, torch.nn.Parameter)
"""Kinds of tensor whose operations may be taken apart; others may want them whole."""


def formulas() -> dict[Any, Callable[..., int]]:
    """FLOPs by operation: torch's, and its formula of attention for the CPU's kernel too."""
    known = dict(flop_counter.flop_registry)
    aten = torch.ops.aten
    attention = known[aten._scaled_dot_product_flash_attention]
    known.setdefault(aten._scaled_dot_product_flash_attention_for_cpu, attention)
    return known


_aten = torch.ops.aten
FACTORS = {
    **dict.fromkeys((_aten.mm, _aten.bmm, _aten.convolution, _aten._convolution), slice(0, 2)),
    **dict.fromkeys((_aten.addmm, _aten.baddbmm), slice(1, 3)),
}
"""Where the two factors of a product are among its arguments."""
ATTENTIONS = frozenset(
    (
        _aten._scaled_dot_product_efficient_attention,
        _aten._scaled_dot_product_flash_attention,
        _aten._scaled_dot_product_flash_attention_for_cpu,
        _aten._scaled_dot_product_cudnn_attention,
    )
)


UNKNOWN = re.compile(
    r"(^|_)b?mm($|_)|matmul|gem[mv]|(?<!upsample_)(?<!bi)(?<!tri)linear|conv(\d|olution|_)"
    r"|attention|attn|lstm|gru|transformer_encoder"
)
"""Operations that do such work, but for which nobody has a formula: those of quantised layers,
among others."""


def backward_flops(operation: Any, args: tuple[Any, ...], flops: int) -> int | None:
    """FLOPs that the backward pass of an operation will take.

    The gradient of a factor costs as much as the product. Attention computes its scores again.

    Args:
        operation: What was done, with a formula.
        args: What it was given.
        flops: What it took.

    Returns:
        None where that is not known: it is done again in the backward pass, or is of a kind
        without a formula.
    """
    factors = args[:3] if operation in ATTENTIONS else args[FACTORS.get(operation, slice(0, 2))]
    wanted = sum(isinstance(each, Tensor) and each.requires_grad for each in factors)
    if not wanted:
        return 0
    if not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(True):
        return None  # activation checkpointing: who knows how often
    if operation in ATTENTIONS:
        query, key, value = (each.shape for each in factors)
        out = (*query[:3], value[3])
        return int(flop_counter.sdpa_backward_flop_count(out, query, key, value))
    return wanted * flops if operation in FACTORS else None


class Counter(TorchDispatchMode):  # type: ignore[misc] # torch does not type it
    """Counts what runs on this thread inside ``with counter:``.

    FLOPs are those of matrix products, convolutions and attention; causal attention is counted in
    full. Bytes are the operands and results of the same operations, each moved once: weights,
    activations and the cache that attention reads. What else reads memory (norms, sums,
    activation functions) is counted by itself: fused into one, it would move much less.

    Under any dispatch mode PyTorch may take another of its ways to the same result:
    `nn.MultiheadAttention` in inference mode then differs in the last bit.

    Cost: 5 to 20 µs an operation, so a forward of a small model takes many times as long.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.moved = 0
        self.touched = 0
        """Bytes of the operands and results of all operations, but for views."""
        self.backward: int | None = 0
        """FLOPs of the backward pass; None: not known."""
        self.unknown = False
        """Whether there was work that cannot be counted: then nothing is known of the whole."""
        self._formulas = formulas()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and count it."""
        kwargs = kwargs or {}
        operation = getattr(func, "_overloadpacket", func)
        formula = self._formulas.get(operation)
        if formula is None:
            return self._run(func, args, kwargs)
        out = func(*args, **kwargs)
        with _COUNT:
            flops = formula(*args, **kwargs, out_val=out)
            moved = _bytes(args, kwargs, out)
            self.flops += flops
            self.moved += moved
            self.touched += moved
            if self.backward is not None:
                back = backward_flops(operation, args, flops)
                self.backward = None if back is None else self.backward + back
        return out

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        plain = all(type(each) in PLAIN for each in tensors((args, kwargs)))
        if plain and isinstance(func, torch._ops.OpOverload):
            with self:  # in inference mode composite operations arrive whole
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        with _COUNT:
            if not getattr(func, "is_view", False):
                self.touched += _bytes(args, kwargs, out)
            if UNKNOWN.search(func.__name__.partition(".")[0]):
                self.unknown = True
        return out


def _bytes(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """Bytes of what an operation is given and of what it gives.

    Of several results the first: attention also returns what only its backward needs.
    """
    given = sum(each.nbytes for each in tensors((args, kwargs)))
    return int(given + next((each.nbytes for each in tensors(out)), 0))


class Counting(Look):
    """A look at one forward that counts its work.

    Args:
        works: Who is told.
        layers: The watched layers.
        given: What the model is given.
    """

    def __init__(self, works: Works, layers: tuple[Layer, ...], given: Given) -> None:
        self.around = self._counter = Counter()
        self._works = works
        self._layers = layers
        self._given = given
        self._open: list[tuple[int, Amount, Amount]] = []
        """Layers that were entered: number, what was counted by then, and of that what was counted
        inside layers by now."""
        self._inside = NOTHING
        self._found: dict[str, Amount] = {}

    def enter(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note what was counted by now."""
        self._open.append((number, self._now, self._inside))
        self._inside = NOTHING

    def leave(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """What was counted since, but in layers inside, is the layer's own."""
        while self._open:
            entered, before, inside = self._open.pop()
            if entered == number:
                break
        else:
            return
        total = self._now.plus(before, -1)
        name = self._layers[number].name
        self._found[name] = self._found.get(name, NOTHING).plus(total.plus(self._inside, -1))
        self._inside = inside.plus(total)

    def end(self, sample: LayerSample | None) -> None:
        """Tell of the forward, if it came to its end."""
        if not self._found or self._open:
            return
        if self._counter.flops and not self._counter.unknown:
            self._works.add(self._given, self._found)
        else:
            self._works.give_up(self._given)

    @property
    def _now(self) -> Amount:
        counter = self._counter
        return Amount(counter.flops, counter.moved, counter.touched, counter.backward)
