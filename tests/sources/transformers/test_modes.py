"""Every mode of ``generate``: the same outputs, one span, and counts that the ids bear out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from llmwatch.testing import capture
from tests.sources.transformers import tiny
from tests.sources.transformers.cases import CASES, NEW, Case, call, ids_of, same

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

HOOKS_SEE_CHUNKS = int(transformers.__version__.partition(".")[0]) >= 5
"""Earlier releases call `forward` itself for the pieces of a prompt."""


@pytest.fixture(params=CASES, name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def lengths(case: Case, ids: Any) -> list[int]:
    """Naively: the new tokens of each row, to the first that ends it."""
    given = case.arguments()
    start = case.start
    if start is None:
        start = given.get("input_ids", given.get("inputs")).shape[1]
    ends = given.get("eos_token_id", [tiny.END])
    found = []
    for row in ids[:, start:].tolist():
        until = [index + 1 for index, token in enumerate(row) if token in ends]
        found.append(until[0] if until else len(row))
    return found


def prompt_tokens(case: Case) -> int:
    given = case.arguments()
    if case.prompt:
        return case.prompt
    if "attention_mask" in given:
        return int(given["attention_mask"].sum())
    ids = given.get("input_ids", given.get("inputs"))
    return int((ids != tiny.PADDING).sum())


class Forwards:
    """Counts the forward passes of a model."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        self._handle = model.register_forward_pre_hook(self._one)

    def _one(self, *_: Any) -> None:
        self.count += 1

    def close(self) -> int:
        self._handle.remove()
        return self.count


def test_outputs_are_the_same_bit_by_bit(case):
    """Watched or not, with a look at the confidence or without."""
    plain = call(case)
    for settings in ({}, {"confidence": True}):
        with capture(sources=["transformers"], **settings):
            watched = call(case)
        assert type(watched) is type(plain)
        assert same(watched, plain)


def test_counts_are_those_of_the_ids(case):
    """Prompt, output, steps and slots, by naive counting of ids and forward passes."""
    model = case.model()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    forwards = Forwards(inner)
    with capture(sources=["transformers"]) as seen:
        ids = ids_of(call(case))
    passes = forwards.close()
    (span,) = seen.spans
    found = span.attributes
    tokens = lengths(case, ids)
    assert list(found["llmwatch.generation.output_tokens"]) == tokens
    assert found["gen_ai.usage.output_tokens"] == sum(tokens)
    assert found["gen_ai.usage.input_tokens"] == prompt_tokens(case)
    assert found["llmwatch.generation.mode"] == case.mode
    assert found["gen_ai.request.max_tokens"] == NEW
    given = case.arguments()
    steps = found["llmwatch.generation.steps"]
    if "prefill_chunk_size" in given and HOOKS_SEE_CHUNKS:
        passes -= 2  # of three
    if given.get("assistant_model") is model or "assistant_early_exit" in given:
        assert 0 < steps < passes  # it drafts for itself
    else:
        assert steps == passes
    if case.drafts:
        accepted = found["llmwatch.generation.accepted_tokens"]
        assert accepted == sum(tokens) - steps
        assert 0 <= accepted <= found["llmwatch.generation.drafted_tokens"]
        assert "llmwatch.generation.slots" not in found
    else:
        batch = found["llmwatch.generation.batch_size"]
        wide = max(given.get("num_beams", 1), given.get("num_return_sequences", 1))
        slots = batch * wide * steps
        assert found["llmwatch.generation.slots"] == slots
        assert found["llmwatch.generation.padding"] == pytest.approx(1 - sum(tokens) / slots)


def test_times_hang_together(case):
    """One reading a step; first token, gaps and last token fill the time between."""
    with capture(sources=["transformers"], timeline=True) as seen:
        call(case)
    (span,) = seen.spans
    found = span.attributes
    offsets = found["llmwatch.generation.timeline"]
    assert len(offsets) == found["llmwatch.generation.steps"]
    assert list(offsets) == sorted(offsets)
    first, last = offsets[0] / 1e6, offsets[-1] / 1e6
    assert found["llmwatch.generation.time_to_first_token"] == pytest.approx(first, abs=2e-6)
    assert found["llmwatch.generation.decode.time"] == pytest.approx(last - first, abs=4e-6)
    assert found["llmwatch.generation.prefill.time"] <= first + 1e-6
    assert last <= (span.end_time - span.start_time) / 1e9
    (gaps,) = seen.metrics()["llmwatch.generation.inter_token_time"]
    assert gaps.count == len(offsets) - 1
    assert gaps.sum == pytest.approx(last - first, abs=4e-6)
    (waited,) = seen.metrics()["gen_ai.server.time_to_first_token"]
    assert (waited.count, waited.sum) == (1, found["llmwatch.generation.time_to_first_token"])
    (usual,) = seen.metrics()["gen_ai.server.time_per_output_token"]
    assert usual.sum == found["llmwatch.response.time_per_output_token"]


def test_the_confidence_is_that_of_the_scores():
    """Entropy and log-probability, recomputed from the scores that ``generate`` can return."""
    for name in ("dict", "sample", "ends", "several"):
        case = CASES[name]
        more = {"return_dict_in_generate": True, "output_scores": True}
        with capture(sources=["transformers"], confidence=True) as seen:
            torch.manual_seed(11)
            result = case.model().generate(**case.arguments() | more)
        (span,) = seen.spans
        tokens = lengths(case, result.sequences)
        logprobs, entropies = [], []
        for step, scores in enumerate(result.scores):
            known = torch.log_softmax(scores.double(), -1)
            new = result.sequences[:, result.sequences.shape[1] - len(result.scores) + step]
            for row, length in enumerate(tokens):
                if step < length:
                    shares = known[row].exp()
                    logprobs.append(known[row, new[row]].item())
                    entropies.append(-sum((p * p.log()).item() for p in shares if p > 0))
        found = span.attributes
        assert len(logprobs) == sum(tokens)
        mean = sum(logprobs) / len(logprobs)
        assert found["llmwatch.generation.logprob"] == pytest.approx(mean, rel=1e-4)
        assert found["llmwatch.generation.logprob.min"] == pytest.approx(min(logprobs), rel=1e-4)
        entropy = sum(entropies) / len(entropies)
        assert found["llmwatch.generation.entropy"] == pytest.approx(entropy, rel=1e-4)
        perplexity = torch.tensor(-mean).exp().item()
        assert found["llmwatch.generation.perplexity"] == pytest.approx(perplexity, rel=1e-4)


def test_elsewhere_there_is_no_confidence(case):
    """Only where one distribution is what one token was chosen from."""
    if case.mode in ("greedy_search", "sample"):
        return
    with capture(sources=["transformers"], confidence=True) as seen:
        call(case)
    (span,) = seen.spans
    assert "llmwatch.generation.entropy" not in span.attributes
