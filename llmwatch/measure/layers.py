"""Time of layers: marks on one forward become what each layer took, alone and with what is in it.

Pure arithmetic. A sampled forward leaves two marks a call, one on entering and one on leaving; the
marks of inner calls lie between those of outer ones. Each mark is a code and a stamp: a layer's
number on entering, its complement (``~number``) on leaving. Between two marks of `OURS` llmwatch
itself was at work: that time belongs to no layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

OURS = 1 << 30
"""Number of no layer: what llmwatch did itself."""


class Layer(NamedTuple):
    """One watched module."""

    name: str
    """Its path in `named_modules()`; empty for the model itself."""
    type: str
    """Name of its class."""
    depth: int
    """How deep it lies in the model; the model itself: 0."""
    block: int | None = None
    """Which of the repeated blocks it is, or is in, counted from 0; None: it is in none."""
    is_block: bool = False
    """Whether it is one of the repeated blocks itself."""


class Call(NamedTuple):
    """One call of a layer in a sampled forward. Times in seconds."""

    layer: Layer
    parent: int | None
    """Index in `LayerSample.calls` of the call it was made in; None for the whole forward."""
    started: float
    """From the beginning of the forward, by the host's clock."""
    self_time: float
    """Without the calls inside it that are watched themselves."""
    total_time: float
    """With them."""
    host_time: float
    """`total_time` by the host's clock: on an accelerator, the time it took to hand it over."""
    memory: int | None = None
    """Bytes allocated on the device at its end, less those at its beginning; None: not known."""


class LayerSample(NamedTuple):
    """One sampled forward or backward pass of a model."""

    model: str
    phase: str
    """``prefill`` or ``decode`` inside a generation, else ``forward``; ``backward``."""
    device: str
    """Where it ran: ``cpu``, ``cuda:0``. Of a model on several, where its first parameter is."""
    started_at: int
    """Unix time in nanoseconds."""
    total_time: float
    """Seconds of the whole pass, by the device's clock."""
    calls: tuple[Call, ...]
    """In the order in which they began; the first is the whole pass."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors that the model was given."""
    tokens: int | None = None
    """Tokens (or other positions) that it was given; None: not known."""
    dtype: str | None = None
    """Type of the model's first floating-point parameter: ``float32``."""
    trace_id: int = 0
    span_id: int = 0
    """The watched operation that it was part of; 0: none, or one whose span is not kept."""


class LayerTotal(NamedTuple):
    """What the sampled passes of one phase say of one layer. Times in seconds, summed up."""

    layer: Layer
    phase: str
    passes: int
    """Sampled passes of the phase in which the layer was called."""
    calls: int
    self_time: float
    total_time: float
    """Calls inside a call of the same layer are in that one already."""
    host_time: float
    longest: float
    """The longest single call."""
    share: float
    """`self_time` over the time of all sampled passes of the phase, 0 to 1."""
    total_share: float
    """`total_time` over the same."""


def calls(
    layers: Sequence[Layer],
    codes: Sequence[int],
    stamps: Sequence[float],
    host: Sequence[float] | None = None,
    memory: Sequence[int] | None = None,
) -> tuple[Call, ...]:
    """What each call took, from the marks of one forward.

    Args:
        layers: What the numbers in *codes* stand for.
        codes: One for each mark; see the module's docstring.
        stamps: When it was, in seconds, by the clock of the device the layer is on.
        host: The same by the host's clock, where that is another one.
        memory: Bytes allocated at each mark.

    Raises:
        ValueError: If an entering mark has no leaving one, or they cross.
    """
    host = stamps if host is None else host
    found: list[Call | None] = []
    open_calls: list[_Open] = []
    for at, code in enumerate(codes):
        if code >= 0:
            open_calls.append(_Open(code, len(found), at))
            if code != OURS:
                found.append(None)  # its place, in the order in which calls began
            continue
        if not open_calls or open_calls[-1].code != ~code:
            raise ValueError(f"mark {at} leaves what was not entered last: {code}")
        mine = open_calls.pop()
        took, host_took = stamps[at] - stamps[mine.at], host[at] - host[mine.at]
        outer = open_calls[-1] if open_calls else _Open(OURS, 0, 0)
        if mine.code == OURS:
            outer.ours += took
            outer.host_ours += host_took
            continue
        total = max(took - mine.ours, 0.0)
        found[mine.call] = Call(
            layers[mine.code],
            _enclosing(open_calls),
            host[mine.at] - host[0],
            max(total - mine.inner, 0.0),
            total,
            max(host_took - mine.host_ours, 0.0),
            None if memory is None else memory[at] - memory[mine.at],
        )
        outer.inner += total
        outer.ours += mine.ours
        outer.host_ours += mine.host_ours
    if open_calls:
        raise ValueError(f"{len(open_calls)} calls were never left")
    return tuple(each for each in found if each is not None)


class _Open:
    """A call that was entered and not left yet."""

    __slots__ = ("at", "call", "code", "host_ours", "inner", "ours")

    def __init__(self, code: int, call: int, at: int) -> None:
        self.code = code
        self.call = call
        self.at = at
        self.inner = self.ours = self.host_ours = 0.0


def _enclosing(open_calls: list[_Open]) -> int | None:
    for each in reversed(open_calls):
        if each.code != OURS:
            return each.call
    return None


class Totals:
    """Sums over sampled passes; those made apart can be merged."""

    def __init__(self) -> None:
        self.passes: dict[str, int] = {}
        """Sampled passes by phase."""
        self.seconds: dict[str, float] = {}
        """Their time by phase."""
        self.tokens: dict[str, int] = {}
        """Tokens they were given by phase, where that was known."""
        self._sums: dict[tuple[str, Layer], list[float]] = {}

    def add(self, sample: LayerSample) -> None:
        """Count one pass. Cost: some µs for each call in it."""
        phase = sample.phase
        self._count(phase, 1, sample.total_time, sample.tokens or 0)
        seen: set[Layer] = set()
        for call in sample.calls:
            layer = call.layer
            outermost = not _is_inside_itself(call, sample.calls)
            total, host = (call.total_time, call.host_time) if outermost else (0.0, 0.0)
            sums = (layer not in seen, 1, call.self_time, total, host)
            seen.add(layer)
            self._add((phase, layer), sums, call.total_time)

    def merge(self, other: Totals) -> None:
        """Add what *other* counted."""
        for phase, count in other.passes.items():
            self._count(phase, count, other.seconds[phase], other.tokens[phase])
        for key, (*sums, longest) in other._sums.items():
            self._add(key, sums, longest)

    def rows(self) -> tuple[LayerTotal, ...]:
        """One row for each phase and layer, in the order in which they were first seen."""
        sums = list(self._sums.items())
        return tuple(
            LayerTotal(layer, phase, int(passes), int(calls), own, total, host, longest,
                       _share(own, self.seconds[phase]), _share(total, self.seconds[phase]))
            for (phase, layer), (passes, calls, own, total, host, longest) in sums
        )  # fmt: skip

    def _count(self, phase: str, passes: int, seconds: float, tokens: int) -> None:
        self.passes[phase] = self.passes.get(phase, 0) + passes
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        self.tokens[phase] = self.tokens.get(phase, 0) + tokens

    def _add(self, key: tuple[str, Layer], sums: Iterable[float], longest: float) -> None:
        held = self._sums.get(key)
        if held is None:
            held = self._sums[key] = [0, 0, 0.0, 0.0, 0.0, -inf]
        for at, more in enumerate(sums):
            held[at] += more
        if longest > held[-1]:  # noqa: PLR1730 - a third of the time that `max` takes
            held[-1] = longest


def _is_inside_itself(call: Call, among: Sequence[Call]) -> bool:
    outer = call.parent
    while outer is not None:
        if among[outer].layer == call.layer:
            return True
        outer = among[outer].parent
    return False


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


class Interval(NamedTuple):
    """From when to when the backward pass was in a call of a layer; None: not known."""

    number: int
    parent: int | None
    """Index of the interval of the call in which it was made."""
    began: float | None
    ended: float | None


OVERLAP = 0.05
"""Share of the shorter of two intervals up to which an overlap is the clock's doing."""


def backward_calls(layers: Sequence[Layer], intervals: Sequence[Interval]) -> tuple[Call, ...]:
    """What each call took in a backward pass, from when gradients came by.

    The pass is in a layer from when the gradient of its output is known until that of its input
    is. Where layers lie beside each other (queries, keys and values of attention), the intervals
    overlap and say nothing of each: those calls, and what is in them, are left out.

    Args:
        layers: What the numbers in *intervals* stand for.
        intervals: Parents before children; the first is the whole pass, and is known.
    """
    kept = _apart(intervals)
    order = sorted(kept, key=lambda at: (kept[at][0], at))
    index = {at: where for where, at in enumerate(order)}
    start = kept[0][0]
    inner = dict.fromkeys(kept, 0.0)
    for at, (began, ended) in kept.items():
        parent = intervals[at].parent
        if parent is not None:
            inner[parent] += ended - began
    found = []
    for at in order:
        began, ended = kept[at]
        parent = intervals[at].parent
        total = ended - began
        found.append(
            Call(
                layers[intervals[at].number],
                None if parent is None else index[parent],
                began - start,
                max(total - inner[at], 0.0),
                total,
                total,
            )
        )
    return tuple(found)


def _apart(intervals: Sequence[Interval]) -> dict[int, tuple[float, float]]:
    """The intervals that are known, lie in their parents and apart from their siblings."""
    kept: dict[int, tuple[float, float]] = {}
    children: dict[int | None, list[int]] = {}
    for at, each in enumerate(intervals):
        children.setdefault(each.parent, []).append(at)
    waiting: list[int | None] = [None]
    while waiting:
        parent = waiting.pop()
        low, high = (-inf, inf) if parent is None else kept[parent]
        known: list[tuple[float, float, int]] = []
        for at in children.get(parent, ()):
            began, ended = intervals[at].began, intervals[at].ended
            if began is not None and ended is not None and began <= ended:
                known.append((max(began, low), min(ended, high), at))
        for began, ended, at in _disjoint(sorted(known)):
            kept[at] = began, ended
            waiting.append(at)
    return kept


def _disjoint(known: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Those that overlap with no other one, cut where they do so by a hair."""
    lost: set[int] = set()
    found = list(known)
    for place, (_, ended, at) in enumerate(known):
        for later in range(place + 1, len(known)):
            began, until, other = found[later]
            if began >= ended:
                break
            shorter = min(ended - known[place][0], until - began)
            if ended - began > OVERLAP * shorter:
                lost |= {at, other}
            else:
                found[later] = (ended, max(until, ended), other)
    return [each for each in found if each[1] >= each[0] and each[2] not in lost]
