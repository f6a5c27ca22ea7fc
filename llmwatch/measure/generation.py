"""Time what a local model generates: prefill, decoding, waste, speculation.

Pure arithmetic on clock readings and lengths. A step is not a token: a step gives one token to each
sequence, and in speculative modes several, which arrive together. A request may hold several
decoding loops (a long recording is transcribed piece by piece), and the time between two loops is
no gap between tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Sequence
from math import ceil, exp
from operator import sub
from typing import NamedTuple


class Confidence(NamedTuple):
    """How sure a model was of the tokens that it chose, as means over tokens; in nats."""

    tokens: int
    entropy: float
    """Of the distribution that each token was chosen from; 0: it could be no other."""
    logprob: float
    """Logarithm of the probability of the chosen token."""
    least: float
    """The lowest of those logarithms."""

    @property
    def perplexity(self) -> float:
        """Over how many equally likely tokens the model seemed to choose, on geometric average."""
        return exp(min(-self.logprob, 700.0))


class Decoding:
    """One decoding loop, growing by two numbers a step. A source writes on it what it sees.

    Args:
        begun: Clock reading when its work began.

    `arrivals` and `lengths` hold one number a step. The hot loop appends to them directly.
    """

    __slots__ = (
        "arrivals",
        "begun",
        "cache_bytes",
        "cached_tokens",
        "confidence",
        "drafted",
        "lengths",
        "outputs",
        "prepared",
        "prompt_tokens",
        "rows",
        "start",
    )

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.prepared: float | None = None
        """When the loop itself could begin; None: not known apart from `begun`."""
        self.start: int | None = None
        """Length of a sequence before its first new token."""
        self.arrivals = array("d")
        """When the tokens of each step were there; empty where that cannot be known."""
        self.lengths = array("q")
        """Length of a sequence after each step."""
        self.rows: int | None = None
        """Sequences that each step goes on with, beams included."""
        self.prompt_tokens: int | None = None
        """Of all prompts, without padding."""
        self.cached_tokens: int | None = None
        """Those of them that a cache from before held already."""
        self.outputs: tuple[int, ...] | None = None
        """Tokens of each sequence that was returned, padding excluded."""
        self.drafted: int | None = None
        """Tokens that were proposed to the model; None where it decodes by itself."""
        self.cache_bytes: int | None = None
        self.confidence: Confidence | None = None


class Generation(NamedTuple):
    """What a request to a local model tells. Seconds; None where it cannot be known."""

    steps: int
    time_to_first_token: float | None = None
    prefill_time: float | None = None
    """From where the prompt could be processed to the first token, in all loops."""
    decode_time: float | None = None
    """From the first tokens to the last ones, in all loops."""
    gaps: tuple[float, ...] = ()
    """Times between two successive steps of a loop, ascending."""
    late_positions: int | None = None
    """How far a sequence grew after its first step: the tokens that `decode_time` was spent on."""
    late_tokens: int | None = None
    """The same for all sequences together."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    outputs: tuple[int, ...] | None = None
    """Output tokens of each sequence."""
    slots: int | None = None
    """Tokens that there was room for: steps times rows. None in speculative modes."""
    drafted: int | None = None
    accepted: int | None = None
    cache_bytes: int | None = None
    """Of the largest key-value cache."""
    confidence: Confidence | None = None

    @property
    def output_tokens(self) -> int | None:
        """Output tokens of all sequences; None where they could not be counted."""
        return None if self.outputs is None else sum(self.outputs)

    @property
    def time_per_output_token(self) -> float | None:
        """TPOT: decoding time for each further token of a sequence; None below two steps."""
        return _ratio(self.decode_time, self.late_positions)

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens processed per second of prefill; those that a cache held do not count."""
        if self.prompt_tokens is None:
            return None
        return _ratio(self.prompt_tokens - (self.cached_tokens or 0), self.prefill_time)

    @property
    def decode_rate(self) -> float | None:
        """Useful tokens per second of decoding, of all sequences together."""
        return _ratio(self.late_tokens, self.decode_time)

    @property
    def padding(self) -> int | None:
        """Slots that held no useful token: of sequences that had ended, of beams not returned."""
        tokens = self.output_tokens
        if self.slots is None or tokens is None or tokens > self.slots:
            return None
        return self.slots - tokens

    @property
    def padding_share(self) -> float | None:
        """The same as a share of all slots, 0 to 1."""
        return _ratio(self.padding, self.slots)

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that the model agreed to, 0 to 1."""
        return _ratio(self.accepted, self.drafted)

    def quantile(self, share: float) -> float | None:
        """The gap below which *share* of the gaps lie (nearest rank); None without gaps."""
        if not self.gaps:
            return None
        return self.gaps[max(ceil(share * len(self.gaps)) - 1, 0)]


def summarise(loops: Sequence[Decoding], started: float) -> Generation:
    """Sum up the decoding loops of one request.

    Args:
        loops: In the order in which they ran; their numbers are consistent.
        started: Clock reading when the request was issued.

    Cost: about 0.2 µs a step, once, at the end.
    """
    timed = [loop for loop in loops if _times(loop)]
    all_timed = bool(timed) and len(timed) == len(loops)
    gaps = [gap for loop in timed for gap in map(sub, _times(loop)[1:], _times(loop))]
    gaps.sort()
    return Generation(
        steps=sum(len(loop.lengths) for loop in loops),
        time_to_first_token=timed[0].arrivals[0] - started
        if timed and timed[0] is loops[0]
        else None,
        prefill_time=sum(map(_prefill, timed)) if all_timed else None,
        decode_time=sum(_times(loop)[-1] - loop.arrivals[0] for loop in timed)
        if all_timed
        else None,
        gaps=tuple(gaps),
        late_positions=sum(map(_late, timed)) if all_timed else None,
        late_tokens=_total(map(_late_tokens, loops)),
        prompt_tokens=_total(loop.prompt_tokens for loop in loops),
        cached_tokens=_known(loop.cached_tokens for loop in loops),
        outputs=_outputs(loops),
        slots=_total(map(_slots, loops)),
        drafted=_known(loop.drafted for loop in loops),
        accepted=_known(map(_accepted, loops)),
        cache_bytes=max((loop.cache_bytes or 0 for loop in loops), default=0) or None,
        confidence=_together([loop.confidence for loop in loops]),
    )


def row_length(row: Sequence[int], ends: Container[int]) -> tuple[int, bool]:
    """How many tokens of a row count, and whether it ended with one of *ends*, which counts too."""
    for index, token in enumerate(row):
        if token in ends:
            return index + 1, True
    return len(row), False


def _times(loop: Decoding) -> array[float]:
    """Readings of the steps; of an interrupted last step there may be only one of two numbers."""
    return loop.arrivals[: len(loop.lengths)]


def _prefill(loop: Decoding) -> float:
    return loop.arrivals[0] - (loop.begun if loop.prepared is None else loop.prepared)


def _late(loop: Decoding) -> int:
    return loop.lengths[len(_times(loop)) - 1] - loop.lengths[0]


def _late_tokens(loop: Decoding) -> int | None:
    if loop.outputs is None or loop.start is None or not loop.lengths:
        return None
    first = loop.lengths[0] - loop.start
    return sum(max(tokens - first, 0) for tokens in loop.outputs)


def _slots(loop: Decoding) -> int | None:
    if loop.rows is None or loop.drafted is not None:
        return None
    return len(loop.lengths) * loop.rows


def _accepted(loop: Decoding) -> int | None:
    """Each step adds what it accepted and one token of the model's own."""
    if loop.drafted is None or loop.start is None or not loop.lengths:
        return None
    return loop.lengths[-1] - loop.start - len(loop.lengths)


def _outputs(loops: Sequence[Decoding]) -> tuple[int, ...] | None:
    found: list[int] = []
    for loop in loops:
        if loop.outputs is None:
            return None
        found += loop.outputs
    return tuple(found) if loops else None


def _total(values: Iterable[int | None]) -> int | None:
    """The sum; None where one is unknown, or there is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None


def _known(values: Iterable[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _together(parts: Sequence[Confidence | None]) -> Confidence | None:
    known = [part for part in parts if part is not None and part.tokens]
    if not known or len(known) != len(parts):
        return None
    tokens = sum(part.tokens for part in known)

    def mean(of: Callable[[Confidence], float]) -> float:
        return sum(of(part) * part.tokens for part in known) / tokens

    return Confidence(
        tokens,
        mean(lambda part: part.entropy),
        mean(lambda part: part.logprob),
        min(part.least for part in known),
    )


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
