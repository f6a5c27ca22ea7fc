"""FLOPs and bytes of each layer, counted on one forward and then known for all of its shape.

The formulas are those of `torch.utils.flop_counter`. Its `FlopCounterMode` is not used itself: it
hooks the modules of all threads, and so cannot run in a process that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

from llmwatch._guard import Guard
from llmwatch.measure.work import Amount, Given, Works
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


class Counter(TorchDispatchMode):  # type: ignore[misc] # torch does not type it
    """Counts what runs on this thread inside ``with counter:``.

    FLOPs are those of matrix products, convolutions and attention; causal attention is counted in
    full. Bytes are the operands and results of the same operations, each moved once: weights,
    activations and the cache that attention reads. What else reads memory (norms, sums,
    activation functions) is not counted, so bytes are a lower bound.

    Under any dispatch mode PyTorch may take another of its ways to the same result:
    `nn.MultiheadAttention` in inference mode then differs in the last bit.

    Cost: 5 to 20 µs an operation, so a forward of a small model takes many times as long.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.moved = 0
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
        formula = self._formulas.get(getattr(func, "_overloadpacket", func))
        if formula is None:
            return self._run(func, args, kwargs)
        out = func(*args, **kwargs)
        with _COUNT:
            self.flops += formula(*args, **kwargs, out_val=out)
            self.moved += sum(each.nbytes for each in tensors((args, kwargs))) + _first_bytes(out)
        return out

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        plain = all(type(each) in PLAIN for each in tensors((args, kwargs)))
        if plain and isinstance(func, torch._ops.OpOverload):
            with self:  # in inference mode composite operations arrive whole
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        return func(*args, **kwargs)


def _first_bytes(out: Any) -> int:
    """Bytes of the result itself; attention also returns what only its backward needs."""
    return next((each.nbytes for each in tensors(out)), 0)


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
        self._inside = Amount(0.0, 0.0)
        self._found: dict[str, Amount] = {}

    def enter(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note what was counted by now."""
        self._open.append((number, self._now, self._inside))
        self._inside = Amount(0.0, 0.0)

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
        total = _less(self._now, before)
        self._add(self._layers[number].name, _less(total, self._inside))
        self._inside = _more(inside, total)

    def end(self, sample: LayerSample | None) -> None:
        """Tell of the forward, if it came to its end."""
        if self._found and not self._open:
            self._works.add(self._given, self._found)

    @property
    def _now(self) -> Amount:
        return Amount(self._counter.flops, self._counter.moved)

    def _add(self, name: str, own: Amount) -> None:
        self._found[name] = _more(self._found.get(name, Amount(0.0, 0.0)), own)


def _more(one: Amount, other: Amount) -> Amount:
    return Amount(one.flops + other.flops, one.moved + other.moved)


def _less(one: Amount, other: Amount) -> Amount:
    return Amount(one.flops - other.flops, one.moved - other.moved)
