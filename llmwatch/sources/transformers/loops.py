"""One request to a local model: the calls of ``generate`` that make it up, and their loops.

``generate`` calls itself: assisted decoding drafts with it, Whisper transcribes piece by piece with
it. The loops that count are those at the depth where the first loop began; what runs deeper drafts
for them and counts no tokens.
"""

from __future__ import annotations

import sys
from functools import wraps
from threading import get_ident
from time import perf_counter
from typing import Any

from llmwatch import semconv_models as names
from llmwatch._guard import Guard
from llmwatch.measure.generation import Decoding
from llmwatch.signals.operation import Operation
from llmwatch.sources.transformers import confidence, prompt
from llmwatch.sources.transformers.cache import cache_in, size_of
from llmwatch.sources.transformers.outcome import Outcome, on_host, sequences_of
from llmwatch.sources.transformers.request import Arguments, drafter_of, mode_of, read_parameters
from llmwatch.sources.transformers.ticks import Criterion, Ticks, ticking

_DRAFT = Guard("transformers.draft")

MIXIN = "transformers.generation.utils"
"""Where transformers keeps `generate` and its loops."""

MOST_REASONS = 128
"""Sequences whose finish reasons are told one by one."""


class Frame:
    """One call of ``generate`` in progress, and its loop once that begins.

    Args:
        model: Whose method is called.
        arguments: What it is called with.
        begun: Clock reading.
    """

    def __init__(self, model: Any, arguments: Arguments, begun: float) -> None:
        self.model = model
        self.arguments = arguments
        self.begun = begun
        self.start: int | None = None
        self.batch: int | None = None
        self.config: Any = None
        self.criteria: Any = ()
        self.cache: Any = None
        self.probe: confidence.Probe | None = None
        self.loop: Decoding | None = None
        self.ticks: Ticks | None = None
        self._cached = prompt.cached(arguments)

    @property
    def decoder_only(self) -> bool:
        """Whether nothing but the loop processes the prompt."""
        return not getattr(self.model.config, "is_encoder_decoder", False)

    def begin_loop(self, operation: Operation, config: Any) -> Ticks:
        """The loop is about to begin."""
        self.config = config
        self.loop = loop = Decoding(self.begun)
        loop.start = self.start
        if self.decoder_only:
            loop.prepared = perf_counter()
        if drafter_of(config, self.arguments) is not None:
            loop.drafted = 0
        device = self.model.device.type
        late = device == "mps" and hasattr(sys.modules[MIXIN], "DeferredStopCheck")
        self.ticks = ticks = Ticks(loop, operation, at_once=device == "cpu", late=late)
        return ticks

    def draft(self, generator: Any) -> None:
        """Count what *generator*, made for this loop alone, proposes."""
        loop, ticks, propose = self.loop, self.ticks, generator.get_candidates
        if loop is None or ticks is None:
            return
        asked = _criteria_see_drafts(self.model)

        @wraps(propose)
        def get_candidates(input_ids: Any, *args: Any, **kwargs: Any) -> Any:
            found = propose(input_ids, *args, **kwargs)
            with _DRAFT:
                loop.drafted = (loop.drafted or 0) + found[0].shape[1] - input_ids.shape[1]
                ticks.drafting = asked
            return found

        generator.get_candidates = get_candidates

    def size(self) -> None:
        """Write on the loop what is known of its shape."""
        loop, config = self.loop, self.config
        assert loop is not None
        if len(loop.arrivals) < len(loop.lengths) - 1:
            del loop.arrivals[:]  # a loop that does not say that it goes on: whose are they?
        given = self.arguments.prompt
        if self.batch is None and given is not None:
            self.batch = given.shape[0] if len(given.shape) > 1 else 1
        if self.batch is not None and config is not None:
            wide = (getattr(config, "num_beams", 1), getattr(config, "num_return_sequences", 1))
            loop.rows = self.batch * max(each or 1 for each in wide)
        if self.cache is not None:
            loop.cache_bytes = size_of(self.cache)
        if self.batch is not None and self._cached is not None:
            loop.cached_tokens = self.batch * self._cached

    def end_loop(self, result: Any) -> list[str] | None:
        """Write on the loop what came out of it, and say why each sequence ended."""
        loop, ids = self.loop, sequences_of(result)
        assert loop is not None
        self.size()
        if loop.start is None and loop.lengths and loop.drafted is None:
            loop.start = loop.lengths[0] - 1
        tokens = prompt.count(self.arguments, self.config, decoder_only=self.decoder_only)
        if ids is None or loop.start is None:
            self._read_prompt(tokens, on_host([tokens]) if hasattr(tokens, "device") else None)
            return None
        self._settle(ids)
        return self._read(ids, tokens)

    def _settle(self, ids: Any) -> None:
        """Leave out a surplus step, which transformers takes back where it looks one step late."""
        loop, ticks = self.loop, self.ticks
        assert loop is not None
        assert ticks is not None
        if mode_of(self.config, self.arguments) not in confidence.MODES:
            return
        if ticks.late and loop.arrivals:
            loop.arrivals.pop(0)
            loop.arrivals.append(perf_counter())
        while loop.lengths and loop.lengths[-1] > ids.shape[1]:
            loop.lengths.pop()
            if len(loop.arrivals) > len(loop.lengths):
                loop.arrivals.pop()

    def _read(self, ids: Any, tokens: Any) -> list[str] | None:
        loop = self.loop
        assert loop is not None
        probed = self.probe.close(ids) if self.probe is not None else []
        counted = [tokens] if hasattr(tokens, "device") else []
        found = on_host([ids, *counted, *probed])
        outcome = Outcome(loop, self.config, self.criteria)
        if found is None:
            self._read_prompt(tokens, None)
            return outcome.guess(ids)
        self._read_prompt(tokens, found[1 : 1 + len(counted)])
        reasons = outcome.read(found[0])
        if probed and loop.outputs is not None:
            entropies, logprobs = (each.tolist() for each in found[-2:])
            loop.confidence = confidence.summarise(entropies, logprobs, loop.outputs)
        return reasons

    def _read_prompt(self, tokens: Any, found: list[Any] | None) -> None:
        assert self.loop is not None
        if isinstance(tokens, int):
            self.loop.prompt_tokens = tokens
        elif found:
            self.loop.prompt_tokens = int(found[0])


def _criteria_see_drafts(model: Any) -> bool:
    """Whether the loop asks its criteria of each draft too, before the model has seen it.

    Releases before 5 do.
    """
    code = getattr(getattr(model, "_assisted_decoding", None), "__code__", None)
    return "is_done_candidate" in getattr(code, "co_varnames", ())


class Request:
    """The outermost call of ``generate`` in progress.

    Args:
        operation: What is told of it.
        confident: Whether to look at how sure the model is.
    """

    def __init__(self, operation: Operation, *, confident: bool) -> None:
        self.operation = operation
        self.frames: list[Frame] = []
        self._confident = confident
        self._thread = get_ident()
        self._level: int | None = None
        self._reasons: list[str] | None = []
        self._told: Frame | None = None
        operation.decodings = []

    @property
    def here(self) -> bool:
        """Whether it is still worked at, and by the thread that asks."""
        return self._thread == get_ident() and self.operation.active

    @property
    def counting(self) -> Frame | None:
        """The call that was made last, if its loop counts, or may come to."""
        frames = self.frames
        return frames[-1] if frames and self._level in (None, len(frames)) else None

    def enter(self, model: Any, arguments: Arguments, begun: float) -> None:
        """A call of ``generate`` begins."""
        self.frames.append(Frame(model, arguments, begun))
        if self.counting is not None:
            self.operation.phase = "prefill"

    def begin_loop(self, config: Any, criteria: Any) -> Any:
        """A loop is about to begin; returns the stopping criteria that it should ask."""
        frame = self.counting
        if frame is None:
            return criteria
        frame.criteria = tuple(criteria)
        return ticking(criteria, self._begin(frame, config))

    def begin_blind_loop(self, config: Any) -> Criterion:
        """The same where transformers does not say when its loop begins."""
        return Criterion(self._begin(self.frames[-1], config))

    def _begin(self, frame: Frame, config: Any) -> Ticks:
        self._level = len(self.frames)
        self._told = self._told or frame
        ticks = frame.begin_loop(self.operation, config)
        assert self.operation.decodings is not None
        assert frame.loop is not None
        self.operation.decodings.append(frame.loop)
        return ticks

    def probe(self, config: Any, processors: Any) -> None:
        """Add to *processors* what looks at the confidence, in the modes where that can be."""
        frame = self.counting if self._confident else None
        if frame is not None and mode_of(config, frame.arguments) in confidence.MODES:
            frame.probe = confidence.Probe()
            processors.append(frame.probe)

    def keep_cache(self, batch: int | None, arguments: Any) -> None:
        """Note the cache that was prepared, to be measured at the end."""
        frame = self.counting
        if frame is not None:
            frame.batch, frame.cache = batch, cache_in(arguments.get)

    def returned(self, result: Any) -> None:
        """The call that was made last returned; its loop, if it counts, is over."""
        frame = self.counting
        if frame is None or frame.loop is None:
            return
        if self._reasons is not None:
            reasons = frame.end_loop(result)
            self._reasons = None if reasons is None else self._reasons + reasons
        else:
            frame.end_loop(result)

    def failed(self) -> None:
        """The outermost call raised: write down what is known without asking a device."""
        for frame in self.frames:
            if frame.loop is not None:
                frame.size()

    def describe(self) -> None:
        """Write on the operation what the whole request was."""
        operation, frame = self.operation, self._told
        operation.phase = None
        if self._reasons:
            operation.finish_reasons = self._reasons[:MOST_REASONS]
        if frame is None or frame.loop is None:
            return
        found = operation.attributes
        if frame.config is not None:
            found.update(read_parameters(frame.config, frame.arguments, frame.start))
        if frame.batch is not None:
            found[names.GENERATION_BATCH_SIZE] = frame.batch
        if frame.cache is not None:
            found[names.GENERATION_CACHE] = type(frame.cache).__name__
        if operation.decodings is not None and len(operation.decodings) > 1:
            found[names.GENERATION_LOOPS] = len(operation.decodings)
