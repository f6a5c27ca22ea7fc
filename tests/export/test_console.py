"""One short line a call, for a human."""

from __future__ import annotations

import io
from typing import Any

import pytest

import llmwatch
from llmwatch.export.console import Console, line
from llmwatch.measure.record import OperationRecord, Series, Usage
from llmwatch.measure.timeline import Timeline
from llmwatch.signals import active

SERIES = Series("chat", "openai", "gpt-4o-mini")


def streamed() -> Any:
    timeline = Timeline(0.0)
    timeline.asked.extend([0.0, 0.31])
    timeline.got.extend([0.31, 0.9])
    return timeline.summary()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            OperationRecord(SERIES, 1.24, 0, Usage(12, 85), streamed(), cost=0.0000528),
            "llmwatch chat gpt-4o-mini  1.24 s  first 310 ms  12→85 tok  94.4 tok/s  $0.0000528",
        ),
        (
            OperationRecord(SERIES, 0.1, 0, Usage(2), cost=4e-8),
            "llmwatch chat gpt-4o-mini  100 ms  2 tok  <$0.0000001",
        ),
        (
            OperationRecord(SERIES, 0.0042, 0, Usage(output_tokens=3, estimated=True)),
            "llmwatch chat gpt-4o-mini  4.2 ms  ?→~3 tok  714.3 tok/s",
        ),
        (
            OperationRecord(Series("embeddings", "openai", None), 2, 0, Usage(input_tokens=7)),
            "llmwatch embeddings -  2.00 s  7 tok",
        ),
        (
            OperationRecord(SERIES._replace(error_type="RateLimitError"), 0.5, 0),
            "llmwatch chat gpt-4o-mini  500 ms  failed: RateLimitError",
        ),
        (
            OperationRecord(SERIES._replace(response_model="gpt-4o-mini-2024"), 1, 0, Usage()),
            "llmwatch chat gpt-4o-mini-2024  1.00 s",
        ),
    ],
)
def test_what_is_unknown_is_left_out(record: OperationRecord, expected: str) -> None:
    assert line(record) == expected


def test_a_server_cannot_write_to_the_terminal_by_a_models_name() -> None:
    text = line(OperationRecord(SERIES._replace(response_model="\x1b[2Jevil\n"), 1, 0))
    assert "\x1b" not in text
    assert "\n" not in text


def test_every_call_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    llmwatch.instrument(console=True, sources=())
    for _ in range(2):
        active.signals.start("chat", "openai", "gpt-4o", {}).finish()
    llmwatch.uninstrument()
    said = capsys.readouterr()
    assert said.out == ""
    assert [each.split("  ")[0] for each in said.err.splitlines()] == ["llmwatch chat gpt-4o"] * 2


def test_it_writes_where_it_is_told_to() -> None:
    out = io.StringIO()
    Console(out).finished(None, OperationRecord(SERIES, 1, 0))  # type: ignore[arg-type]
    assert out.getvalue() == "llmwatch chat gpt-4o-mini  1.00 s\n"
