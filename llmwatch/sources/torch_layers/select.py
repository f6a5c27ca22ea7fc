"""Which modules of a model are watched, and where they are found again.

A `Plan` names modules by the way that leads to them and holds none of them: a watched model goes
when the last reference to it does. Nothing inside a compiled or scripted module is ever selected:
a compiled region is guarded against the very change that sampling makes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from llmwatch.errors import ConfigError
from llmwatch.measure.layers import Layer
from llmwatch.sources.torch_layers.compiled import is_opaque
from llmwatch.sources.torch_layers.tree import Node, Tree

Selection = str | int | type | Callable[[str, nn.Module], bool] | Iterable[Any]
"""``"blocks"``, ``"all"``, a depth, a pattern of names or a class name, a class, a function of name
and module, or several of these."""

CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
_CALLED_BY_NOBODY = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
MOST_LAYERS = 4096


class Plan(NamedTuple):
    """What is watched in a model."""

    layers: tuple[Layer, ...]
    """The first is the model itself."""
    tree: Tree
    """Where they are found."""
    follows: tuple[int | None, ...]
    """For each layer, the one that lies just before it in the same container."""


def plan(model: nn.Module, selection: Selection | None) -> Plan:
    """Find what *selection* means in *model*; None: the model as a whole.

    Raises:
        ConfigError: If it means nothing there, or too much.
    """
    tree = list(_walk(model))
    if selection is None:
        return _planned(tree, {0}, {})
    blocks = _blocks(tree)
    wanted = _wanted(tree, selection, blocks)
    if not wanted and len(tree) > 1:
        raise ConfigError(_nothing(tree, selection))
    if len(wanted) > MOST_LAYERS:
        raise ConfigError(
            f"layers={selection!r} cannot be used: it means {len(wanted)} layers of this model, "
            f"and {MOST_LAYERS} can be watched. Give a smaller depth or a narrower pattern."
        )
    return _planned(tree, wanted | {0}, blocks)


class _Found(NamedTuple):
    parent: int
    name: str
    depth: int
    module: nn.Module


def _walk(model: nn.Module) -> Iterator[_Found]:
    """Every module once, parents first, but for what lies in opaque ones."""
    seen: set[int] = set()
    waiting = [_Found(-1, "", 0, model)]
    at = -1
    while waiting:
        here = waiting.pop()
        if id(here.module) in seen:
            continue
        seen.add(id(here.module))
        at += 1
        yield here
        if is_opaque(here.module):
            continue
        for key, child in reversed(here.module._modules.items()):
            if child is not None:
                name = f"{here.name}.{key}" if here.name else key
                waiting.append(_Found(at, name, here.depth + 1, child))


def _wanted(tree: list[_Found], selection: Selection, blocks: dict[int, int]) -> set[int]:
    if selection == "blocks":
        return _beside(tree, blocks)
    every = {at for at, each in enumerate(tree) if at and _is_called(each.module)}
    if selection == "all":
        return every
    if isinstance(selection, int) and not isinstance(selection, bool):
        return {at for at in every if tree[at].depth <= selection}
    if isinstance(selection, str):
        return {at for at in every if _matches(tree[at], selection)}
    if isinstance(selection, type):
        return {at for at in every if isinstance(tree[at].module, selection)}
    if callable(selection):
        return {at for at in every if selection(tree[at].name, tree[at].module)}
    if isinstance(selection, Iterable):
        return {at for each in selection for at in _wanted(tree, each, blocks)}
    raise ConfigError(
        f"layers={selection!r} cannot be used: give 'blocks', 'all', a depth, a pattern of names, "
        "a class, a function of name and module, or several of these."
    )


def _is_called(module: nn.Module) -> bool:
    """Whether calling it is what it is there for."""
    return type(module) not in _CALLED_BY_NOBODY


def _matches(found: _Found, pattern: str) -> bool:
    return fnmatchcase(found.name, pattern) or type(found.module).__name__ == pattern


def _nothing(tree: list[_Found], selection: Selection) -> str:
    some = [each.name for each in tree[1:] if _is_called(each.module)][:3]
    classes = Counter(type(each.module).__name__ for each in tree[1:])
    common = [name for name, _ in classes.most_common(3)]
    return (
        f"layers={selection!r} cannot be used: no layer of this model is meant. Its layers are "
        f"called, for example, {', '.join(map(repr, some)) or 'nothing: it has none'}"
        + (f"; their classes {', '.join(common)}." if common else ".")
    )


# --- the repeated blocks -----------------------------------------------------------------------


def _blocks(tree: list[_Found]) -> dict[int, int]:
    """The model's repeated blocks: index in the tree → how many came before.

    Blocks are children of one container, at least two of them of one class and made of modules
    themselves; of containers inside each other, the outermost counts. Where no container is like
    that, single layers in a container will do.
    """
    children: dict[int, list[int]] = {}
    for at, each in enumerate(tree):
        children.setdefault(each.parent, []).append(at)
    for composite in (True, False):
        found: list[int] = []
        inside: set[int] = set()
        for at, each in enumerate(tree):
            if each.parent in inside:
                inside.add(at)
            elif isinstance(each.module, CONTAINERS) and _repeats(
                tree, children.get(at, ()), composite=composite
            ):
                inside.add(at)
                found += children[at]
        if found:
            return {at: index for index, at in enumerate(found)}
    return {}


def _repeats(tree: list[_Found], children: Iterable[int], *, composite: bool) -> bool:
    modules = [tree[at].module for at in children]
    classes = Counter(
        type(each) for each in modules if _is_called(each) and (each._modules or not composite)
    )
    return any(many > 1 for many in classes.values())


def _beside(tree: list[_Found], blocks: dict[int, int]) -> set[int]:
    """The blocks and what is called beside them; without blocks, the model's own children."""
    if not blocks:
        return {at for at, each in enumerate(tree) if each.parent == 0 and _is_called(each.module)}
    on_the_way = {0}
    for at in blocks:
        parent = tree[at].parent
        while parent > 0:
            on_the_way.add(parent)
            parent = tree[parent].parent
    beside = {at for at, each in enumerate(tree) if at and each.parent in on_the_way}
    return {at for at in beside - on_the_way if _is_called(tree[at].module)}


# --- the plan ------------------------------------------------------------------------------------


def _planned(tree: list[_Found], wanted: set[int], blocks: dict[int, int]) -> Plan:
    needed = set(wanted)
    for at in wanted:
        parent = tree[at].parent
        while parent >= 0 and parent not in needed:
            needed.add(parent)
            parent = tree[parent].parent
    order = sorted(needed)
    node_of = {at: index for index, at in enumerate(order)}
    number_of = {at: number for number, at in enumerate(sorted(wanted))}
    nodes = Tree(
        [Node(node_of.get(tree[at].parent, -1), tree[at].module, number_of.get(at)) for at in order]
    )
    layers = tuple(_layer(tree, at, blocks) for at in sorted(wanted))
    follows = tuple(_before(tree, at, number_of) for at in sorted(wanted))
    return Plan(layers, nodes, follows)


def _layer(tree: list[_Found], at: int, blocks: dict[int, int]) -> Layer:
    here, block = tree[at], at
    while block >= 0 and block not in blocks:
        block = tree[block].parent
    return Layer(here.name, type(here.module).__name__, here.depth, blocks.get(block), at in blocks)


def _before(tree: list[_Found], at: int, number_of: dict[int, int]) -> int | None:
    here = tree[at]
    if here.parent < 0 or not isinstance(tree[here.parent].module, CONTAINERS):
        return None
    before = None
    for other in range(here.parent + 1, at):
        if tree[other].parent == here.parent:
            before = other
    return None if before is None else number_of.get(before)
