"""What is worth a look in a model's layers: one function for each kind of finding.

Pure thresholds on a `Portrait`. Each finding carries what it rests on, so that whoever reads it can
disagree; the how-to page says what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from math import isfinite
from statistics import median
from typing import Any, Final

from llmwatch.measure.health import Health
from llmwatch.measure.portrait import ContextPoint, LayerFacts, Portrait, pattern

Evidence = Mapping[str, float | int | str]

TIME_BEYOND_FLOPS: Final = 2.0
"""Share of time over share of FLOPs, or of bytes where there are no FLOPs …"""
TIME_EXCESS: Final = 0.05
"""… and the one minus the other."""
OUTLIER: Final = 1.5
"""Time over the median sibling's …"""
OUTLIER_SPREADS: Final = 5.0
"""… beyond it by so many spreads of the siblings (1.4826 times the median deviation) …"""
OUTLIER_EXCESS: Final = 0.01
"""… and by this share of the forward."""
OUTLIER_FORWARDS: Final = 8
"""With fewer, one that was interrupted looks like a slow layer."""
SIBLINGS: Final = 4
"""With fewer there is no telling who is the odd one."""
ATTENTION_SHARE: Final = 0.5
"""Of the time of attention and MLP together, at the longest context …"""
ATTENTION_GROWTH: Final = 1.5
"""… and attention over MLP there, over the same at the shortest."""
CONTEXT_SPAN: Final = 4
"""Longest over shortest context, for there to be a trend."""
HOST_BOUND: Final = 0.9
"""Time to issue the work over time to do it."""
MEMORY_BOUND: Final = 0.5
"""Share of decode time in layers whose intensity lies left of the ridge."""
MEMORY_READINGS: Final = 16
MEMORY_GROWTH: Final = 0.05
"""Last quarter of the readings over the first, minus one …"""
MEMORY_EXCESS: Final = 16 << 20
"""… and the one minus the other, in bytes …"""
MEMORY_ORDER: Final = 0.8
"""… and the share of pairs that grow minus those that shrink (Kendall's τ)."""
NEAR_IDENTITY: Final = 0.975
"""Mean cosine between the input and the output of a block …"""
NEAR_IDENTITY_TOKENS: Final = 100
"""… over so many tokens at least."""
MASSIVE: Final = 100.0
"""Largest magnitude …"""
MASSIVE_RATIO: Final = 500.0
"""… and that over the typical one. Sun et al. 2024 (arXiv 2402.17762) ask for 1000 medians, which
is about 670 times the root mean square."""
SATURATION: Final = 0.5
"""Largest magnitude over the largest number of the dtype."""
DEAD_UNITS: Final = 0.1
"""Share of units that were silent …"""
DEAD_TOKENS: Final = 1000
"""… in so many tokens at least."""
GRADIENT_RATIO: Final = 100.0
"""Gradient norm over the median layer's, or the other way round."""


@dataclass(frozen=True)
class Finding:
    """Something worth a look."""

    kind: str
    layer: str
    """Path, or with stars for a group of siblings; empty where it is of the whole model."""
    block: int | None
    phase: str
    """Empty where it does not depend on one."""
    value: float
    """What was compared …"""
    threshold: float
    """… with this."""
    text: str
    evidence: Evidence

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding at another time."""
        return self.kind, self.layer, self.phase

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"evidence": dict(self.evidence)}


Finder = Callable[[Portrait], Iterator[Finding]]


def find(portrait: Portrait) -> tuple[Finding, ...]:
    """Everything that is worth a look, by kind in the order of `FINDERS`."""
    return tuple(finding for finder in FINDERS for finding in finder(portrait))


# --- time -----------------------------------------------------------------------------------------


def time_beyond_flops(portrait: Portrait) -> Iterator[Finding]:
    """Layers in the same place that together take far more of the time than of the FLOPs.

    Layers without FLOPs (norms, activation functions, position embeddings) move memory: they are
    measured by their share of the bytes.
    """
    for (phase, place), group in _groups(portrait.layers):
        flops = _sum(each.flops_share for each in group)
        if flops is None:
            continue
        kind, due, work = "time_beyond_flops", flops, f"{flops:.1%} of the FLOPs"
        if not flops:
            moved = _sum(each.bytes_share for each in group)
            if moved is None:
                continue
            kind, due = "time_beyond_bytes", moved
            work = f"no FLOPs and {moved:.1%} of the bytes"
        share = sum(each.share for each in group)
        if share - due < TIME_EXCESS or share < TIME_BEYOND_FLOPS * due:
            continue
        yield Finding(
            kind,
            place,
            None,
            phase,
            share,
            max(TIME_BEYOND_FLOPS * due, due + TIME_EXCESS),
            f"{place or 'what is outside all layers'} takes {share:.0%} of {phase} time for {work}",
            {
                "time_share": share,
                ("bytes_share" if kind == "time_beyond_bytes" else "flops_share"): due,
                "seconds": sum(each.seconds for each in group),
                "layers": len(group),
                "type": group[0].type,
            },
        )


def outlier(portrait: Portrait) -> Iterator[Finding]:
    """A layer that takes much longer than those like it."""
    few = {each.phase for each in portrait.forwards if each.count < OUTLIER_FORWARDS}
    for (phase, _), group in _groups(portrait.layers):
        if len(group) < SIBLINGS or phase in few:
            continue
        usual = median(each.seconds for each in group)
        spread = 1.4826 * median(abs(each.seconds - usual) for each in group)
        for each in group:
            beyond = each.seconds - usual
            if each.seconds < OUTLIER * usual or beyond <= OUTLIER_SPREADS * spread:
                continue
            if each.share * beyond < OUTLIER_EXCESS * each.seconds:
                continue
            yield Finding(
                "outlier",
                each.layer,
                each.block,
                phase,
                each.seconds / usual if usual else float("inf"),
                OUTLIER,
                f"{each.layer} takes {_time(each.seconds)} in {phase}, its siblings {_time(usual)}",
                {
                    "seconds": each.seconds,
                    "siblings_seconds": usual,
                    "spread_seconds": spread,
                    "siblings": len(group) - 1,
                    "time_share": each.share,
                },
            )


def attention_grows(portrait: Portrait) -> Iterator[Finding]:
    """Attention that takes over from the MLPs as the context grows."""
    for phase, found in groupby(sorted(portrait.contexts, key=_by_context), lambda it: it.phase):
        points = [each for each in found if each.mlp > 0 and each.attention > 0]
        if len(points) < 2 or points[-1].context < CONTEXT_SPAN * points[0].context:
            continue
        first, last = points[0], points[-1]
        growth = _ratio(last) / _ratio(first)
        share = last.attention / (last.attention + last.mlp)
        if growth < ATTENTION_GROWTH or share < ATTENTION_SHARE:
            continue
        evidence: dict[str, float | int | str] = {
            "context_from": first.context,
            "context_to": last.context,
            "ratio_from": _ratio(first),
            "ratio_to": _ratio(last),
        }
        if (crossing := _crossing(points)) is not None:
            evidence["crossing"] = crossing
        yield Finding(
            "attention_grows",
            "",
            None,
            phase,
            share,
            ATTENTION_SHARE,
            f"at {last.context} tokens of context attention takes {_ratio(last):.1f} times as long "
            f"as the MLPs in {phase}, at {first.context} tokens {_ratio(first):.1f} times",
            evidence,
        )


def host_bound(portrait: Portrait) -> Iterator[Finding]:
    """A device that waits for the host between layers."""
    for each in portrait.forwards:
        if each.device_busy is not None and each.device_busy >= HOST_BOUND:
            yield Finding(
                "host_bound",
                "",
                None,
                each.phase,
                each.device_busy,
                HOST_BOUND,
                f"{each.phase}: the host takes {each.device_busy:.0%} of the time to issue the "
                "work, so the device waits between layers",
                {"issue_over_run": each.device_busy, "seconds": each.seconds},
            )


def memory_bound(portrait: Portrait) -> Iterator[Finding]:
    """Decode that spends its time moving weights and caches."""
    roof = portrait.roof
    placed = [each for each in portrait.of("decode") if each.place is not None]
    time = sum(each.seconds for each in placed)
    if roof is None or time <= 0:
        return
    bound = sum(each.seconds for each in placed if each.place and each.place.bound == "memory")
    if bound < MEMORY_BOUND * time:
        return
    flops = sum(each.flops or 0.0 for each in placed)
    moved = sum(each.moved or 0.0 for each in placed)
    tokens = next((each.tokens for each in portrait.forwards if each.phase == "decode"), 0.0)
    used = moved / time / roof.bandwidth
    yield Finding(
        "memory_bound",
        "",
        None,
        "decode",
        bound / time,
        MEMORY_BOUND,
        f"decode does {flops / moved:.2g} FLOPs a byte where {roof.device} could do "
        f"{roof.ridge:.2g}: memory is the limit, at "
        # A cache, or a roof that was measured while the machine had other things to do.
        + (f"{used:.0%} of its bandwidth" if used <= 1 else "more than the bandwidth it showed"),
        {
            "intensity": flops / moved,
            "ridge": roof.ridge,
            "bandwidth_share": used,
            "tokens": tokens,
            "bound_time_share": bound / time,
        },
    )


def growing_memory(portrait: Portrait) -> Iterator[Finding]:
    """Memory that is more each time a forward of the same phase begins."""
    for phase, readings in portrait.memory.items():
        if len(readings) < MEMORY_READINGS:
            continue
        quarter = len(readings) // 4
        before, after = median(readings[:quarter]), median(readings[-quarter:])
        order = _kendall(readings)
        grown = after - before
        if order < MEMORY_ORDER or grown < max(MEMORY_GROWTH * before, MEMORY_EXCESS):
            continue
        yield Finding(
            "growing_memory",
            "",
            None,
            phase,
            grown / before if before else float("inf"),
            MEMORY_GROWTH,
            f"memory at the start of {phase} grew from {before / 2**20:,.0f} to "
            f"{after / 2**20:,.0f} MiB over {len(readings)} sampled forwards",
            {"bytes_before": before, "bytes_after": after, "kendall": order},
        )


# --- numbers --------------------------------------------------------------------------------------


def nan_first(portrait: Portrait) -> Iterator[Finding]:
    """The layer in which NaNs and infinities appear first."""
    broken = [each for each in portrait.health if each.first_broken]
    if not broken:
        return
    first = max(broken, key=lambda each: (each.first_broken, -each.order))
    yield Finding(
        "nan_first",
        first.layer,
        first.block,
        "",
        first.first_broken,
        1,
        f"{first.layer} was the first with a NaN or an infinity, in {first.first_broken} of "
        f"{first.forwards} sampled forwards",
        {
            "forwards": first.first_broken,
            "of": first.forwards,
            "nan": first.nan,
            "inf": first.inf,
            "layers_broken": sum(each.broken > 0 for each in portrait.health),
        },
    )


def near_identity(portrait: Portrait) -> Iterator[Finding]:
    """Blocks that hand on what they were given."""
    for each in portrait.health:
        if each.block is None or each.cosine is None or each.tokens < NEAR_IDENTITY_TOKENS:
            continue
        if each.cosine < NEAR_IDENTITY:
            continue
        share = sum(
            facts.share
            for facts in portrait.layers
            if facts.block == each.block and facts.phase == portrait.layers[0].phase
        )
        change = {} if each.change is None else {"change": each.change}
        yield Finding(
            "near_identity",
            each.layer,
            each.block,
            "",
            each.cosine,
            NEAR_IDENTITY,
            f"{each.layer} is nearly the identity: cosine {each.cosine:.3f} between its input and "
            "its output",
            {"cosine": each.cosine, **change, "time_share": share, "tokens": each.tokens},
        )


def massive_activations(portrait: Portrait) -> Iterator[Finding]:
    """Single values that are hundreds of times what is usual; told once, for the first block."""
    massive = [each for each in portrait.health if _massive(each)]
    if not massive:
        return
    first = min(massive, key=lambda each: each.order)
    most = max(massive, key=lambda each: each.abs_max or 0.0)
    top, typical = most.abs_max or 0.0, most.typical or 0.0
    yield Finding(
        "massive_activations",
        first.layer,
        first.block,
        "",
        top,
        MASSIVE,
        f"massive activations from {first.layer} on, up to {top:,.0f} in {most.layer}, where "
        f"{typical:.3g} is typical",
        {
            "abs_max": top,
            "typical": typical,
            "where": most.layer,
            "layers": len(massive),
            "float16_range_used": top / 65504.0,
        },
    )


def saturation(portrait: Portrait) -> Iterator[Finding]:
    """Numbers near the largest that their dtype can hold."""
    for each in portrait.health:
        used = each.range_used
        if used is not None and used >= SATURATION:
            yield Finding(
                "saturation",
                each.layer,
                each.block,
                "",
                used,
                SATURATION,
                f"{each.layer} reaches {each.abs_max:,.0f}, {used:.0%} of what {each.dtype} holds",
                {"abs_max": each.abs_max or 0.0, "limit": each.limit, "dtype": each.dtype},
            )


def dead_units(portrait: Portrait) -> Iterator[Finding]:
    """Units of an activation function that no token of many woke."""
    for each in portrait.units:
        if each.dead >= DEAD_UNITS and each.tokens >= DEAD_TOKENS:
            yield Finding(
                "dead_units",
                each.layer,
                each.block,
                "",
                each.dead,
                DEAD_UNITS,
                f"{each.dead:.0%} of the {each.units} units of {each.layer} were silent in all of "
                f"{each.tokens} tokens",
                {"dead_share": each.dead, "units": each.units, "tokens": each.tokens},
            )


def gradients(portrait: Portrait) -> Iterator[Finding]:
    """Layers whose gradients are of another order than the other layers'."""
    if len(portrait.gradients) < SIBLINGS:
        return
    norms = [each.norm for each in portrait.gradients if isfinite(each.norm)]
    usual = median(norms) if norms else 0.0
    for each in portrait.gradients:
        if usual <= 0 or usual / GRADIENT_RATIO < each.norm < usual * GRADIENT_RATIO:
            continue
        word = "vanishing" if each.norm < usual else "exploding"
        yield Finding(
            f"{word}_gradient",
            each.layer,
            each.block,
            "backward",
            each.norm / usual,
            1 / GRADIENT_RATIO if each.norm < usual else GRADIENT_RATIO,
            f"the gradient of {each.layer} has norm {each.norm:.3g}, that of the median layer "
            f"{usual:.3g}",
            {"norm": each.norm, "median_norm": usual, "steps": each.steps},
        )


def inputs_look_new(portrait: Portrait) -> Iterator[Finding]:
    """The first layer whose activations have drifted; told once."""
    drifted = [each for each in portrait.drift if each.alarm]
    if not drifted:
        return
    first = min(drifted, key=lambda each: each.order)
    yield Finding(
        "inputs_look_new",
        first.layer,
        first.block,
        "",
        first.effect,
        0.0,
        f"inputs look new from {first.layer} on: its drift monitor's alarm is raised",
        {
            "effect": first.effect,
            "p_value": first.p_value,
            "layers_drifted": len(drifted),
            "layers_watched": len(portrait.drift),
        },
    )


FINDERS: Final[tuple[Finder, ...]] = (
    nan_first,
    saturation,
    time_beyond_flops,
    outlier,
    attention_grows,
    host_bound,
    memory_bound,
    growing_memory,
    near_identity,
    massive_activations,
    dead_units,
    gradients,
    inputs_look_new,
)
"""The gravest first."""


# --- arithmetic -----------------------------------------------------------------------------------


def _groups(
    layers: Iterable[LayerFacts],
) -> Iterator[tuple[tuple[str, str], list[LayerFacts]]]:
    """Phase and place of siblings: layers of one class in the same place; and the siblings."""
    groups: dict[tuple[str, str, str], list[LayerFacts]] = {}
    for each in layers:
        groups.setdefault((each.phase, pattern(each.layer), each.type), []).append(each)
    for (phase, place, _), group in groups.items():
        yield (phase, place if len(group) > 1 else group[0].layer), group


def _sum(values: Iterable[float | None]) -> float | None:
    """None where one of them is not known."""
    found = list(values)
    known = [each for each in found if each is not None]
    return sum(known) if len(known) == len(found) else None


def _by_context(point: ContextPoint) -> tuple[str, int]:
    return point.phase, point.context


def _ratio(point: ContextPoint) -> float:
    return point.attention / point.mlp


def _crossing(points: list[ContextPoint]) -> int | None:
    """The context at which attention takes as long as the MLPs, between two that were seen."""
    for low, high in pairwise(points):
        below, above = _ratio(low), _ratio(high)
        if below < 1 <= above:
            share = (1 - below) / (above - below)
            return round(low.context + share * (high.context - low.context))
    return None


def _kendall(values: tuple[int, ...]) -> float:
    """Share of pairs in ascending order, minus that of descending ones."""
    pairs = [
        (later > earlier) - (later < earlier)
        for index, earlier in enumerate(values)
        for later in values[index + 1 :]
    ]
    return sum(pairs) / len(pairs)


def _massive(each: Health) -> bool:
    if each.abs_max is None or each.typical is None:
        return False
    return each.abs_max >= MASSIVE and each.abs_max >= MASSIVE_RATIO * each.typical


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.1f} µs"
