"""What a real model's tokens cost, by the name of the request that made them."""

from __future__ import annotations

import os

import pytest

import llmwatch
from llmwatch.testing import capture
from tests.sources.gpu.test_attribution import (
    COUNTING,
    WATTS,
    duration,
    gpu_attributes,
    wait_for_polls,
)

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

POLL = 0.02
TOKENS = 150


@pytest.fixture(scope="module")
def model():
    """A tiny Llama with weights by chance, which never ends by itself."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def test_generate_has_joules_per_token_on_its_span(driver, model):
    """The driver counts 250 W: over the duration of the request, over the tokens that it made."""
    driver.add(energy=COUNTING)
    prompt = torch.ones((1, 5), dtype=torch.long)
    with capture(sources=["gpu", "transformers"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        made = model.generate(prompt, max_new_tokens=TOKENS, do_sample=False)
        llmwatch.flush()
        (span,) = seen.spans
        metrics = seen.metrics()
    assert made.shape[1] == 5 + TOKENS
    assert span.attributes["gen_ai.usage.output_tokens"] == TOKENS
    found = gpu_attributes(span)
    assert found["energy.source"] == "counter"
    assert found["energy.used"] == pytest.approx(WATTS * duration(span), rel=0.2)
    assert found["energy.per_token"] == pytest.approx(found["energy.used"] / TOKENS)
    (point,) = metrics["llmwatch.gpu.operation.energy_per_token"]
    assert (point.count, point.sum) == (1, pytest.approx(found["energy.per_token"]))


def test_requests_idleness_and_others_are_what_the_counter_advanced(driver, model):
    """Over a batch, and a pause, with a stranger who has a quarter of the GPU's work."""
    driver.add(energy=COUNTING, procs=f"{os.getpid()}:1000:60,1:1000:20")
    prompt = torch.ones((3, 5), dtype=torch.long)
    with capture(sources=["gpu", "transformers"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        model.generate(prompt, max_new_tokens=TOKENS, do_sample=False)
        wait_for_polls(5)
        llmwatch.flush()
        (span,) = seen.spans
        totals = {
            point.attributes["llmwatch.gpu.energy.to"]: point.value
            for point in seen.metrics()["llmwatch.gpu.energy.attributed"]
        }
    assert span.attributes["gen_ai.usage.output_tokens"] == 3 * TOKENS
    assert totals["requests"] == pytest.approx(gpu_attributes(span)["energy.used"])
    assert totals["unattributed"] == pytest.approx(sum(totals.values()) / 4)
    assert totals["idle"] > 0
