"""The demo shows what is in the store, on any terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console, RenderableType

from llmwatch import semconv
from llmwatch.demo import draw, report
from llmwatch.demo.scenes import SCENES, THE_STREAM
from llmwatch.export.store_reader import StoredSpan, read_metrics, read_spans
from llmwatch.view import numbers

pytestmark = pytest.mark.slow


WITHOUT_TORCH = """\
import runpy, sys
sys.modules["torch"] = None
runpy.run_module("llmwatch.demo", run_name="__main__")
"""


class Run(NamedTuple):
    """One run of the demo, its output piped."""

    output: str
    errors: str
    spans: Sequence[StoredSpan]
    store: Path


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return kept | {"PYTHONWARNINGS": "error", "LLMWATCH_STRICT": "1"} | more


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("store")
    elsewhere = "http://127.0.0.1:9"  # must be ignored: the demo shows what its own store holds
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        env=environment(LLMWATCH_STORE_PATH=str(store), OTEL_EXPORTER_OTLP_ENDPOINT=elsewhere),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spans = sorted(read_spans(store), key=lambda span: span.start)
    return Run(done.stdout, done.stderr, spans, store)


def drawn(thing: RenderableType, width: int) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def rows(demo: Run, title: str) -> list[StoredSpan]:
    return [span for span in demo.spans if span.attributes.get(semconv.ROUTE) == title]


def test_the_demo_is_quiet_and_complete(demo: Run) -> None:
    """Nothing on stderr, every scene in the table, its output plain text."""
    assert demo.errors == ""
    for scene in SCENES:
        assert scene.title in demo.output, scene.title
    assert "\x1b" not in demo.output
    assert str(demo.store) in demo.output.replace("\n", "")


def test_what_is_missing_is_said(demo: Run) -> None:
    """Without PyTorch the demo goes on, and says how to have all of it."""
    assert re.search(r"Left out: .*torch.*nox -s demo", demo.output)


def test_every_call_is_one_operation(demo: Run) -> None:
    """Retries are no operations of their own; children belong to their parents."""
    counts = {scene.title: len(rows(demo, scene.title)) for scene in SCENES}
    expected = dict.fromkeys(counts, 1) | {
        "tool call": 2,
        "@watch agent": 3,
    }
    assert counts == expected
    agent, *children = rows(demo, "@watch agent")
    assert {child.parent_id for child in children} == {agent.span_id}
    assert all(f"└ {c.attributes[semconv.OPERATION_NAME]}" in demo.output for c in children)


@pytest.mark.parametrize(
    ("title", "ending", "failed"),
    [
        (THE_STREAM, "exhausted", False),
        ("broken stream", "APIConnectionError", True),
        ("abandoned stream", "abandoned", False),
    ],
)
def test_endings_are_shown(demo: Run, title: str, ending: str, failed: bool) -> None:
    """The table says how each call ended, as the span does."""
    (span,) = rows(demo, title)
    found = span.attributes.get(semconv.ERROR_TYPE) or span.attributes[semconv.STREAM_ENDING]
    assert found == ending
    assert (span.status == 2) is failed
    assert ending == "exhausted" or ending in demo.output


def test_the_table_shows_the_numbers_of_the_spans(demo: Run) -> None:
    """Model, tokens, duration and the stall of the streamed chat are on its line."""
    (span,) = rows(demo, THE_STREAM)
    (line,) = (line for line in demo.output.splitlines() if f"✓ {THE_STREAM}" in line)
    found = span.attributes
    used, made = found[semconv.USAGE_INPUT_TOKENS], found[semconv.USAGE_OUTPUT_TOKENS]
    assert found[semconv.REQUEST_MODEL] in line
    assert f"{used}→{made}" in line
    assert numbers.seconds(span.duration) in line
    assert found[semconv.STREAM_STALLS] == 1
    assert re.search(r"\d+/\d+!", line)


def test_the_bars_are_the_gaps(demo: Run) -> None:
    """One bar a gap; the stall is the highest."""
    (span,) = rows(demo, THE_STREAM)
    (bars,) = (line for line in demo.output.splitlines() if re.fullmatch(r"[▁▂▃▄▅▆▇█]+ *", line))
    assert len(bars.strip()) == len(span.attributes[semconv.STREAM_TIMELINE]) - 1
    assert "█" in bars


def test_metrics_are_shown_with_their_totals(demo: Run) -> None:
    """What is shown is among what was exported; the count of operations is that of the spans."""
    exported = {point.metric for point in read_metrics(demo.store)}
    assert f"a few of {len(exported)}" in demo.output
    assert all((name in exported) == (name in demo.output) for name in report.SHOWN)
    name = "gen_ai.client.operation.duration"
    (line,) = (line for line in demo.output.splitlines() if line.strip().startswith(name))
    assert f" {len(demo.spans)} " in line


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_tables_fit(demo: Run, width: int) -> None:
    """No line is wider than the terminal, and only names of models and operations are cut."""
    keys = (semconv.OPERATION_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL)
    names = [str(span.attributes.get(key)) for span in demo.spans for key in keys]
    for table in (report.operations(demo.spans, width), report.metrics(read_metrics(demo.store))):
        text = drawn(table, width)
        assert max(map(len, text.splitlines())) <= width
        for cut in (word[:-1] for word in text.split() if word.endswith("…")):
            assert any(name.startswith(cut) for name in names), cut


def test_a_missing_extra_is_explained() -> None:
    """Without rich: one line that says what to install, and no traceback."""
    program = "import sys; sys.modules['rich'] = None\nfrom llmwatch.demo.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'llmwatch-otel[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [1, 2, 79, 80, 81, 1000])
def test_bars_fit_the_width(number: int) -> None:
    """However many gaps: at most as many bars as columns, and the longest gap stays visible."""
    bars = draw.sparkline([0.02] * (number - 1) + [1.5], 80)
    assert len(bars) <= 80
    assert str(bars)[-1] == draw.BARS[-1]
    assert [str(span.style) for span in bars.spans][-1] == "bold red"


def test_the_commands_that_it_names_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """After nox, too, on whose own path they are while the demo runs, and on nobody's later."""
    monkeypatch.setenv("NOX_CURRENT_SESSION", "demo")
    said = report.following(Path("store"))
    monkeypatch.setenv("PATH", os.defpath)
    (top,) = re.findall(r"\[cyan\](.*) top --path store", said)
    (python,) = re.findall(r"\[cyan\](.*) -m llmwatch.demo.server", said)
    for command in (f"{top} top --help", f"{python} -c import:llmwatch.demo.server"):
        ours = [word.replace(":", " ") for word in command.split()]
        subprocess.run(ours, capture_output=True, check=True, timeout=30)
