"""The demo's part with a model in this process: what is drawn is what the spans say."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from llmwatch import semconv
from llmwatch import semconv_models as models
from llmwatch.demo import local, parts, report_local, smollm2
from llmwatch.demo.show import Show
from llmwatch.export.store_reader import StoredSpan, read_spans
from llmwatch.view.numbers import rate, seconds

TINY = Path(__file__).parents[1] / "integrations" / "tiny_model.py"


class Run(NamedTuple):
    """What was drawn, and what was stored."""

    output: str
    spans: Sequence[StoredSpan]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny model with weights drawn by chance answers what SmolLM2 is asked in the demo."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    subprocess.run([sys.executable, str(TINY), str(folder)], check=True, capture_output=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    console = Console(width=100, file=io.StringIO(), highlight=False)
    with Show(console, tmp_path_factory.mktemp("store")) as show:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        parts.answer(show, model, tokenizer)
        parts.layers(show, model, tokenizer)
    spans = sorted(read_spans(show.where), key=lambda span: span.start)[: len(local.TASKS)]
    return Run(console.file.getvalue(), spans)  # type: ignore[attr-defined]


def test_each_task_is_one_operation_of_the_model(run: Run) -> None:
    """In the order in which they were played, each with its name and its steps."""
    assert [span.attributes[semconv.ROUTE] for span in run.spans] == [t.title for t in local.TASKS]
    for span in run.spans:
        assert report_local.is_local(span)
        assert span.attributes[semconv.REQUEST_MODEL] == "tiny-llama"
        steps = span.attributes[models.GENERATION_STEPS]
        assert len(span.attributes[models.GENERATION_TIMELINE]) == steps


def test_every_number_in_the_table_is_the_spans(run: Run) -> None:
    """Tokens, first token, rates, confidence and the end of each call are on its line."""
    for span in run.spans:
        found = span.attributes
        line = next(
            line for line in run.output.splitlines() if line.startswith(str(found[semconv.ROUTE]))
        )
        assert f"{found[semconv.USAGE_INPUT_TOKENS]}→{found[semconv.USAGE_OUTPUT_TOKENS]}" in line
        assert seconds(found[models.GENERATION_TIME_TO_FIRST_TOKEN]) in line
        assert f" {rate(found[models.GENERATION_PREFILL_RATE])} " in line
        assert f" {rate(found[models.GENERATION_DECODE_RATE])} " in line
        if (logprob := found.get(models.GENERATION_LOGPROB)) is not None:
            assert f"{exp(logprob):.0%}/" in line
        assert found[semconv.RESPONSE_FINISH_REASONS][0] in line
    assert (
        f"{run.spans[0].attributes[models.MODEL_PARAMETERS] / 1e3:.3g} k parameters" in run.output
    )


def test_questions_and_answers_are_shown(run: Run) -> None:
    """All questions, whole or cut to the line."""
    for task in local.TASKS:
        for question in task.questions:
            assert f"> {question}" in run.output


def test_an_answer_takes_one_line() -> None:
    """However long it is, and whatever lines it has."""
    console = Console(width=40, file=io.StringIO())
    console.print(report_local.conversation([(local.TASKS[0], ["one\ntwo " * 40])], []))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    assert lines[1].startswith("  one two one")
    assert lines[1].endswith("…")


def test_the_layers_have_a_map(run: Run) -> None:
    """A row for each phase, with what attention and MLPs took of it."""
    _, _, below = run.output.partition("Every layer, sampled")
    assert "1 of prefill" in below.splitlines()[0]
    assert any(line.startswith("prefill") for line in below.splitlines())
    assert "of decode" in below.splitlines()[0]
    assert "attention" in below
    assert "MLP" in below
    assert max(map(len, below.splitlines())) <= 100


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits(run: Run, width: int) -> None:
    """No line is wider than the terminal, and no number is cut."""
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(report_local.generations(run.spans, width))
    assert max(map(len, captured.get().splitlines())) <= width
    assert "…" not in captured.get()


def test_the_model_is_looked_for_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is unpacked needs neither the wheel nor what unpacks it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "gguf" in smollm2.missing()
    folder = tmp_path / "llmwatch" / smollm2.NAME
    folder.mkdir(parents=True)
    assert smollm2.missing() == []
    assert smollm2.prepare() == folder
