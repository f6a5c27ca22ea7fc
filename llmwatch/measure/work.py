"""What work a forward is, by layer: counted for a few, and so known for all like them.

Pure arithmetic. The work of a transformer on ``batch`` sequences of ``length`` new tokens, with
``cached`` ones before them, is a sum of terms that are proportional to `Given.terms`. So a handful
of counts say what any other forward is: those whose terms are a combination of the counted ones.
One count more than needed checks that this model is like that; if it is not, only forwards that
were counted themselves are known.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_KINDS = 64
"""Kinds of input that are remembered; the one that was longest unused goes."""
MOST_COUNTS = 12
"""Counts of each kind that are kept."""
FURTHER = 4
"""Nothing is said of forwards larger than the largest that was counted by more than this factor."""
AGREES = 0.01
"""How far the FLOPs that were foreseen may be from those that were counted."""

Floats = NDArray[np.float64]


class Amount(NamedTuple):
    """Work of one layer, without that of the watched layers in it."""

    flops: float
    moved: float
    """Bytes of the operands and results of what those are of."""
    touched: float = 0.0
    """Bytes of the operands and results of all operations: of norms and sums, too."""
    backward: float | None = 0.0
    """FLOPs of its backward pass; None: not known."""

    def plus(self, other: Amount, times: float = 1.0) -> Amount:
        """Both together, the other so many times."""
        back = None
        if self.backward is not None and other.backward is not None:
            back = self.backward + times * other.backward
        return Amount(
            self.flops + times * other.flops,
            self.moved + times * other.moved,
            self.touched + times * other.touched,
            back,
        )

    def positive(self) -> Amount:
        """Without what rounding leaves below zero."""
        back = None if self.backward is None else max(self.backward, 0.0)
        return Amount(max(self.flops, 0.0), max(self.moved, 0.0), max(self.touched, 0.0), back)


NOTHING = Amount(0.0, 0.0)


class Given(NamedTuple):
    """What a model is given in one forward, as far as its work depends on it."""

    kind: Hashable
    """Equal for forwards that differ in the three numbers below at most."""
    batch: int
    length: int
    """New tokens of each sequence; 0: these are no sequences."""
    cached: int = 0
    """Tokens of each sequence that a cache holds already."""

    @property
    def context(self) -> int:
        """Tokens that attention looks at in the end."""
        return self.cached + self.length

    @property
    def terms(self) -> tuple[float, ...]:
        """What work is made of: weights; tokens; pairs of tokens; sequences; their contexts."""
        tokens = self.batch * self.length
        return 1.0, tokens, tokens * self.context, self.batch, self.batch * self.context


class Works:
    """The work of the forwards that were counted so far."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()
        self._hopeless: deque[Hashable] = deque(maxlen=MOST_KINDS)

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, given: Given, layers: Mapping[str, Amount]) -> None:
        """Remember a forward that was counted.

        Args:
            given: What the model was given.
            layers: The work of each layer, by its path.
        """
        kind = self._kinds.setdefault(given.kind, _Kind())
        self._kinds.move_to_end(given.kind)
        kind.add(given, layers)
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)

    def give_up(self, given: Given) -> None:
        """Nothing was there to be counted in a forward: forwards of its kind stay unknown."""
        self._hopeless.append(given.kind)

    @property
    def hopeless(self) -> bool:
        """Whether some were given up."""
        return bool(self._hopeless)

    def wants(self, given: Given) -> bool:
        """Whether a forward should be counted: it is not known, or the first that was foreseen."""
        if given.kind in self._hopeless:
            return False
        kind = self._kinds.get(given.kind)
        return kind is None or kind.wants(given)

    def get(self, given: Given) -> dict[str, Amount] | None:
        """The work of each layer in a forward; None: not known. Cost: 0.1 ms."""
        kind = self._kinds.get(given.kind)
        return None if kind is None else kind.get(given)


class _Kind:
    def __init__(self) -> None:
        self._counted: OrderedDict[Given, dict[str, Amount]] = OrderedDict()
        self._checked = self._unlike = False

    def add(self, given: Given, layers: Mapping[str, Amount]) -> None:
        foreseen = self.get(given)
        if foreseen is not None and given not in self._counted:
            self._checked = True
            told, counted = (sum(each.flops for each in it.values()) for it in (foreseen, layers))
            self._unlike |= abs(told - counted) > AGREES * counted
        self._counted[given] = dict(layers)
        if len(self._counted) > MOST_COUNTS:
            self._counted.popitem(last=False)

    def wants(self, given: Given) -> bool:
        if given in self._counted:
            return False
        return not self._checked or self.get(given) is None

    def get(self, given: Given) -> dict[str, Amount] | None:
        if given in self._counted:
            return self._counted[given]
        if self._unlike or not self._counted:
            return None
        weights = self._weights(given)
        return None if weights is None else self._sum(weights)

    def _weights(self, given: Given) -> Floats | None:
        """How much of each counted forward makes up this one; None: they do not."""
        counted = np.array([each.terms for each in self._counted])
        largest = counted.max(0)
        terms = np.array(given.terms)
        if (terms > FURTHER * largest).any():
            return None
        scale = np.where(largest > 0, largest, 1.0)
        found = np.linalg.lstsq((counted / scale).T, terms / scale, rcond=1e-9)[0]
        weights = np.asarray(found, np.float64)
        made = weights @ (counted / scale)
        return weights if np.allclose(made, terms / scale, rtol=1e-6, atol=1e-9) else None

    def _sum(self, weights: Floats) -> dict[str, Amount]:
        found: dict[str, Amount] = {}
        for weight, layers in zip(weights.tolist(), self._counted.values(), strict=True):
            for name, amount in layers.items():
                found[name] = found.get(name, NOTHING).plus(amount, weight)
        return {name: amount.positive() for name, amount in found.items()}
