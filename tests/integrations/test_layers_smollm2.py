"""What a report finds in a real model is what was found in it by hand.

In SmolLM2-135M blocks 25 and 26 hand on nearly what they were given (cosine about 0.98), and from
block 11 on the first token has a value of more than 20,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("transformers") is None:
    pytest.skip("needs transformers", allow_module_level=True)

import torch

from llmwatch.demo import smollm2
from llmwatch.sources.torch_layers import analysis
from llmwatch.sources.torch_layers.report import Report
from llmwatch.sources.torch_layers.watcher import watch_layers

if not smollm2.is_prepared() and smollm2.missing():
    pytest.skip(f"needs {', '.join(smollm2.missing())}", allow_module_level=True)

pytestmark = pytest.mark.timeout(900)  # on a busy machine a prompt takes minutes

PROSE = Path(__file__).with_name("prose.txt")


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Of one long prompt and a few tokens that follow it."""
    model, tokenizer = smollm2.load()
    given = tokenizer(PROSE.read_text(), return_tensors="pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "COUNT_EVERY", 0.0)
        with torch.inference_mode(), watch_layers(model, every=1, numbers=True) as watcher:
            for _ in range(2):
                model.generate(**given, max_new_tokens=8, do_sample=False, pad_token_id=0)
            yield watcher.report()


def test_blocks_25_and_26_are_nearly_the_identity(report):
    found = {each.block: each.value for each in report.findings if each.kind == "near_identity"}
    assert {25, 26} <= set(found)
    assert found[25] == pytest.approx(0.98, abs=0.006)
    assert found[26] == pytest.approx(0.98, abs=0.006)
    assert sorted(found, key=found.__getitem__)[-2:] == [26, 25]


def test_activations_are_massive_from_block_11_on(report):
    (found,) = [each for each in report.findings if each.kind == "massive_activations"]
    assert found.block == 11
    assert 20_000 < found.value < 27_000
    assert 0.3 < found.evidence["float16_range_used"] < 0.45


def test_decode_is_bound_by_memory_and_prefill_is_not(report):
    (found,) = [each for each in report.findings if each.kind == "memory_bound"]
    assert found.evidence["intensity"] == pytest.approx(0.5, abs=0.1)  # two FLOPs for 4 bytes
    blocks = [each for each in report.portrait.of("prefill") if each.role == "block"]
    assert {each.place.bound for each in blocks if each.place is not None} == {"compute"}


def test_the_flops_of_prefill_are_those_worked_out_by_hand(report):
    """30 blocks of width 576: 9 heads of 64, 3 of keys and values, an MLP of 1536, gated."""
    (forward,) = [each for each in report.portrait.forwards if each.phase == "prefill"]
    tokens = int(forward.tokens)
    attention = 2 * tokens * 576 * (2 * 576 + 2 * 192) + 4 * 9 * 64 * tokens**2
    block = attention + 2 * tokens * 3 * 576 * 1536
    head = 2 * 576 * 49152  # for the last token only
    found = sum(each.flops or 0.0 for each in report.portrait.of("prefill"))
    assert found == pytest.approx(30 * block + head, rel=1e-6)
