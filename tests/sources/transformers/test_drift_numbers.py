"""Generation by a local model feeds drift monitors with its lengths, times and confidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import llmwatch
from llmwatch import DriftMonitor
from llmwatch.drift import registry
from llmwatch.drift.reference import fit_reference
from llmwatch.testing import capture
from tests.sources.transformers import tiny

NAMES = ("output_tokens", "duration", "time_to_first_token", "logprob", "entropy", "refused")


@pytest.fixture(scope="module")
def model():
    return tiny.gpt2()


def generate(model, many: int, **settings) -> None:
    for seed in range(many):
        torch.manual_seed(seed)
        model.generate(tiny.prompts(1, 5, seed), do_sample=True, **settings)


def test_every_generation_feeds_what_it_tells(model):
    with capture(drift_numbers=NAMES, confidence=True):
        generate(model, 3, max_new_tokens=4)
        llmwatch.flush()
        found = {each.name.partition(" ")[2]: each.status().seen[""] for each in registry.living()}
    assert found == dict.fromkeys(NAMES, 3)


def test_without_confidence_there_is_none(model):
    with capture(drift_numbers=("logprob", "output_tokens")):
        generate(model, 1, max_new_tokens=4)
        llmwatch.flush()
        assert [each.name.partition(" ")[2] for each in registry.living()] == ["output_tokens"]


def test_a_hotter_model_is_less_sure_and_that_is_noticed(model):
    """The reference is what it says of itself at one temperature; then it is asked at another."""
    sure = DriftMonitor("sure", "first:80", window=20)
    length = DriftMonitor("length", fit_reference(np.full(80, 4.0), window=20), window=20)
    numbers = {"entropy": sure, "output_tokens": length}
    with capture(drift_numbers=numbers, confidence=True):
        generate(model, 80, max_new_tokens=4, min_new_tokens=4, temperature=0.3)
        llmwatch.flush()
        assert sure.wait(60)
        generate(model, 40, max_new_tokens=4, min_new_tokens=4, temperature=3.0)
        llmwatch.flush()
        assert sure.status().alarm, str(sure.status())
        assert not length.status().alarm
