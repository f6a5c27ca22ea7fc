"""The latest sampled forwards of a model, and what they amount to.

Pure arithmetic. Seconds are medians, so that one odd forward does not decide; shares are sums over
sums, so that they add up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from llmwatch.measure.layers import Layer, LayerSample
from llmwatch.measure.portrait import ContextPoint, ForwardFacts, LayerFacts, role
from llmwatch.measure.roofline import Roof, place
from llmwatch.measure.work import NOTHING, Amount, Given, Works

KEPT = 64
"""Forwards of each phase that are kept."""


@dataclass(slots=True)
class _Own:
    """One layer in one forward."""

    seconds: float = 0.0
    calls: int = 0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class _Forward:
    given: Given | None
    seconds: float
    tokens: int | None
    issue: float | None
    """Time to issue the work, by the host's clock; None where that is the device's."""
    layers: Mapping[Layer, _Own]


class History:
    """What was sampled lately, by phase.

    Args:
        kept: Forwards of each phase.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._phases: dict[str, deque[_Forward]] = {}

    def __bool__(self) -> bool:
        return any(self._phases.values())

    @property
    def seen(self) -> tuple[Layer, ...]:
        """Layers that were seen."""
        kept = [each for phase in list(self._phases.values()) for each in list(phase)]
        return tuple(dict.fromkeys(layer for each in kept for layer in each.layers))

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases that were seen."""
        return tuple(self._phases)

    def add(self, sample: LayerSample, given: Given | None) -> None:
        """Take in one sampled forward.

        Args:
            sample: Its times.
            given: What the model was given, where that is known.
        """
        layers: dict[Layer, _Own] = {}
        for call in sample.calls:
            own = layers.setdefault(call.layer, _Own())
            own.seconds += call.self_time
            own.calls += 1
            own.total += call.total_time
        on_device = not sample.device.startswith("cpu") and sample.calls
        issue = sample.calls[0].host_time if on_device else None
        kept = self._phases.setdefault(sample.phase, deque(maxlen=self._kept))
        kept.append(_Forward(given, sample.total_time, sample.tokens, issue, layers))

    def forwards(self) -> tuple[ForwardFacts, ...]:
        """What the forwards of each phase have in common."""
        return tuple(_facts(phase, list(kept)) for phase, kept in list(self._phases.items()))

    def layers(
        self, works: Works, parameters: Mapping[str, int], roof: Roof | None
    ) -> tuple[LayerFacts, ...]:
        """Every layer in every phase, in the order of execution.

        Args:
            works: What work the forwards were.
            parameters: Elements of the parameters by layer, its own.
            roof: Of the device.
        """
        return tuple(
            facts
            for phase, kept in list(self._phases.items())
            for facts in _layers(phase, list(kept), works, parameters, roof)
        )

    def contexts(self) -> tuple[ContextPoint, ...]:
        """Time of attention and MLPs by length of context, to powers of two."""
        return tuple(
            point
            for phase, kept in list(self._phases.items())
            for point in _contexts(phase, list(kept))
        )


def _facts(phase: str, kept: list[_Forward]) -> ForwardFacts:
    busy = [each.issue / each.seconds for each in kept if each.issue is not None and each.seconds]
    return ForwardFacts(
        phase,
        len(kept),
        median(each.seconds for each in kept),
        median([each.tokens for each in kept if each.tokens is not None] or [0]),
        median(busy) if busy else None,
    )


def _layers(
    phase: str,
    kept: list[_Forward],
    works: Works,
    parameters: Mapping[str, int],
    roof: Roof | None,
) -> Iterable[LayerFacts]:
    known = [(each, work) for each in kept if (work := _work(phase, each, works)) is not None]
    whole = sum(each.seconds for each in kept)
    everything = [amount for _, work in known for amount in work.values()]
    all_flops = sum(each.flops for each in everything)
    all_bytes = sum(each.touched for each in everything)
    seen = dict.fromkeys(layer for each in kept for layer in each.layers)
    for order, layer in enumerate(seen):
        mine = [each.layers[layer] for each in kept if layer in each.layers]
        flops = moved = rate = share = bytes_share = where = None
        if known:
            amounts = [work[layer.name] for _, work in known if layer.name in work]
            flops = sum(each.flops for each in amounts)
            moved = sum(each.moved for each in amounts)
            share = flops / all_flops if all_flops else None
            touched = sum(each.touched for each in amounts)
            bytes_share = touched / all_bytes if all_bytes else None
            spent = sum(each.layers[layer].seconds for each, _ in known if layer in each.layers)
            where = None if roof is None else place(roof, flops, moved, spent)
            rate = flops / spent if spent else None
            flops, moved = flops / len(known), moved / len(known)
        yield LayerFacts(
            layer.name,
            layer.type,
            layer.block,
            "block" if layer.is_block else role(layer.name, layer.type),
            phase,
            order,
            median(each.seconds for each in mine),
            sum(each.seconds for each in mine) / whole if whole else 0.0,
            median(each.calls for each in mine),
            parameters.get(layer.name, 0),
            flops,
            share,
            bytes_share,
            moved,
            rate,
            where,
        )


def _work(phase: str, forward: _Forward, works: Works) -> dict[str, Amount] | None:
    """The work of each layer; None: not known."""
    found = None if forward.given is None else works.get(forward.given)
    if found is None or phase != "backward":
        return found
    names = {layer.name for layer in forward.layers}
    back: dict[str, Amount] = {}
    for name, amount in found.items():
        if amount.backward is None:
            return None
        # The time of layers that could not be told apart is that of the layer around them.
        here = next(above for above in (name, *reversed([*_above(name)]), "") if above in names)
        back[here] = back.get(here, NOTHING).plus(Amount(amount.backward, 0.0))
    return back


def _contexts(phase: str, kept: list[_Forward]) -> Iterable[ContextPoint]:
    roles = _outer_roles({layer for each in kept for layer in each.layers})
    found: dict[int, list[tuple[int, float, float]]] = {}
    for each in kept:
        if each.given is None or not each.given.length:
            continue
        spent = {"attention": 0.0, "mlp": 0.0}
        for layer, own in each.layers.items():
            if (what := roles.get(layer)) is not None:
                spent[what] += own.total
        context = each.given.context
        if all(spent.values()):
            point = (context, spent["attention"], spent["mlp"])
            found.setdefault(context.bit_length(), []).append(point)
    for _, points in sorted(found.items()):
        contexts, attention, mlp = zip(*points, strict=True)
        yield ContextPoint(phase, round(median(contexts)), median(attention), median(mlp))


def _outer_roles(layers: Iterable[Layer]) -> dict[Layer, str]:
    """Attention layers and MLPs, but those inside one: its time holds theirs already."""
    roles = {each: role(each.name, each.type) for each in layers}
    outer = {each.name: what for each, what in roles.items() if what in ("attention", "mlp")}
    inside = {each for each in roles if any(above in outer for above in _above(each.name))}
    return {each: what for each, what in roles.items() if each.name in outer and each not in inside}


def _above(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))
