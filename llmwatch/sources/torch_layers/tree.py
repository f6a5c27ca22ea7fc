"""The watched modules of a model, found again at each sampled forward, and what they look like now.

All is asked by a few calls into C: after some milliseconds of matrix products nothing of ours is in
the processor's caches, and each line of Python then costs ten times what it seems to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress, count, repeat
from operator import attrgetter, call, is_, is_not, itemgetter, methodcaller
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from torch import nn

from llmwatch.sources.torch_layers.compiled import (
    COMPILED,
    FORWARD,
    is_compiled,
    is_compiled_function,
    is_compiler,
    is_optimized,
)
from llmwatch.sources.torch_layers.tape import blank

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.swap import Wrappers

_own = attrgetter("__dict__")
_children = attrgetter("_modules")
_values = methodcaller("values")


class Node(NamedTuple):
    """A watched module, or one on the way to one."""

    parent: int
    """Index of the node it is a child of; -1 for the model itself."""
    module: nn.Module
    number: int | None
    """Index of its layer; None: it is only on the way."""


class Tree:
    """The watched modules and those on the way to them, as they were found. Holds none of them.

    Args:
        nodes: Parents before children; the first is the model itself.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        parents = {node.parent for node in nodes}
        modules = [node.module for node in nodes]
        self.nodes = tuple(map(ref, modules))
        self.above = _picked([at for at in range(len(nodes)) if at in parents])
        self.below = _picked(
            [at for at, each in enumerate(modules) if at not in parents and not _is_leaf(each)]
        )
        self.leaves = _picked([at for at, each in enumerate(modules) if _is_leaf(each)])
        """Layers of PyTorch's own: who gives one a child, gives it a `forward` too."""
        self.watched = _picked([at for at, node in enumerate(nodes) if node.number is not None])
        self.kinds = list(map(type, modules))
        self.compiled_at = [at for at, each in enumerate(modules) if is_compiled(each)]
        self.functions = _functions([each.__dict__.get(FORWARD) for each in modules])
        at = {id(module): index for index, module in enumerate(modules)}
        others: list[Callable[[], nn.Module | None]] = []
        inside = []
        for child in _inside(self.above(modules)):
            if id(child) not in at:
                at[id(child)] = len(modules) + len(others)
                others.append(_nobody if child is None else ref(child))
            inside.append(at[id(child)])
        self.others = tuple(others)
        """Children that are no nodes."""
        self.inside = _picked(inside)
        self.many = list(map(len, map(_children, self.below(modules))))
        self.plain = not self.compiled_at
        """Whether `compile()` was called on no module of it."""
        self.compiled = not self.plain or any(map(is_optimized, modules))
        """Whether something in it was compiled."""

    def find(self, model: nn.Module) -> Found | None:
        """The modules; None if *model* is not what it was any more. Cost: 0.3 µs a module."""
        found = Found(self, list(map(call, self.nodes[1:])), list(map(call, self.others)))
        return found if found.same(model) else None


class Found:
    """The modules of a tree. Holds them all, but for the model itself.

    Args:
        tree: How they are found.
        nodes: Those that are watched or on the way, but for the model.
        others: Their children that are neither.
    """

    wrappers: Wrappers | None = None
    """Made for one sampled forward."""

    def __init__(self, tree: Tree, nodes: list[Any], others: list[Any]) -> None:
        self.tree = tree
        self.marks = blank()
        """Where those write."""
        self._nodes = nodes
        self._inside = tree.inside([None, *nodes, *others])
        self._owns: list[dict[str, Any]] | None = None
        self._bare = True
        """Whether no module has a `forward` of its own; those may hold the model, and are not."""
        self._sizes: list[int] = []
        self._classes = set(tree.kinds)
        methods = list(_methods(self._classes))
        self._methods = [ref(each) for each in methods if isinstance(each, FunctionType)]
        # Of anything else, as a descriptor of the user's, another may come of each look.
        self._lasts = len(self._methods) == len(methods)

    def same(self, model: nn.Module) -> bool:
        """Whether *model* still is what it was when the tree was made. Cost: 0.2 µs a module."""
        tree, nodes = self.tree, [model, *self._nodes]
        # Whether it is scripted is a matter of its class.
        if list(map(type, nodes)) != tree.kinds:
            return False
        if self._owns is None:
            self._owns = list(map(_own, self._nodes))
        owns = [model.__dict__, *self._owns]
        sizes = list(map(len, owns))
        if sizes != self._sizes:  # something has come or gone
            compiled = list(map(dict.get, owns, repeat(COMPILED)))
            if [at for at in _some(compiled) if is_compiler(compiled[at])] != tree.compiled_at:
                return False
            forwards = list(map(dict.get, owns, repeat(FORWARD)))
            if _functions(forwards) != tree.functions:
                return False
            if any(map(_children, tree.leaves(nodes))):
                return False
            self._bare = all(map(is_, forwards, repeat(None)))
            self._sizes = sizes
        inside = list(_inside(tree.above(nodes)))
        if len(inside) != len(self._inside) or not all(map(is_, inside, self._inside)):
            return False  # by identity: of users' classes, equality may be anything
        return list(map(len, map(_children, tree.below(nodes)))) == tree.many

    def doubt(self) -> None:
        """Look closer next time: something came as another thing went."""
        self._sizes = []

    def watched(self, of: Sequence[Any]) -> Sequence[Any]:
        """Of what is known of each node but the model, that of the watched ones, by number."""
        return self.tree.watched([None, *of])[1:]

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The watched modules, by number from 1."""
        return self.watched(self._nodes)

    @property
    def owns(self) -> Sequence[dict[str, Any]]:
        """Their dicts."""
        return self.watched(self._owns or ())

    @property
    def lasting(self) -> bool:
        """Whether its wrappers still stand for what the classes have: some are patched later."""
        return (
            self.plain
            and self._lasts
            and all(map(is_, _methods(self._classes), map(call, self._methods)))
        )

    @property
    def plain(self) -> bool:
        """Whether nothing lies where wrappers go; as it was when `same` looked."""
        return self.tree.plain and self._bare


def _methods(classes: Iterable[type]) -> Iterable[Any]:
    """What instances of each call; None for scripted modules, whose classes say nothing."""
    return map(getattr, classes, repeat(FORWARD), repeat(None))


def _inside(modules: Iterable[nn.Module]) -> Iterable[nn.Module | None]:
    """All children, one module's after the other's."""
    return chain.from_iterable(map(_values, map(_children, modules)))


def _some(held: Sequence[Any]) -> Iterable[int]:
    """Where something is held."""
    return compress(count(), map(is_not, held, repeat(None)))


def _functions(forwards: Sequence[Any]) -> int:
    """How many of them were compiled."""
    return sum(is_compiled_function(forwards[at]) for at in _some(forwards))


def _is_leaf(module: nn.Module) -> bool:
    """Whether it would call no child if it had one: a layer of PyTorch's own without children."""
    where = type(module).__module__
    return (
        not module._modules and where.startswith("torch.nn.modules.") and "container" not in where
    )


def _nobody() -> None:
    """Stands for a child that is None."""


def _picked(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What picks these of a sequence."""
    if len(indices) > 1:
        return itemgetter(*indices)
    return itemgetter(slice(*((indices[0], indices[0] + 1) if indices else (0, 0))))
