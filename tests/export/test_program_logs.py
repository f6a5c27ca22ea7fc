"""The program's own log records: with ids, exported, and otherwise as if nobody were there."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import llmwatch
from llmwatch.export.program_logs import ProgramLogs
from tests.cli.programs import environment
from tests.receivers import HttpReceiver

pytest.importorskip("opentelemetry.instrumentation.logging.handler")


@llmwatch.watch
def answers() -> str:
    logging.getLogger("program").warning("inside %s", "it", extra={"order": 7})
    return "answer"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


def test_a_record_carries_the_ids_of_the_span_it_is_in(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Outside of any span they are 0, as OpenTelemetry's own instrumentation has it."""
    llmwatch.instrument(endpoint=receiver.endpoint, logs="context", sources=[], service_name="s")
    answers()
    logging.getLogger("program").warning("outside")
    llmwatch.flush()
    (span,) = receiver.spans()
    inside, outside = (vars(record) for record in caplog.records)
    assert (inside["otelTraceID"], inside["otelSpanID"]) == (
        span.trace_id.hex(),
        span.span_id.hex(),
    )
    assert (inside["otelTraceSampled"], inside["otelServiceName"]) == (True, "s")
    assert (outside["otelTraceID"], outside["otelSpanID"]) == ("0", "0")
    assert not [event for event in receiver.events() if event.severity_text]


def test_records_are_exported_with_the_ids(receiver: HttpReceiver) -> None:
    """Text, severity, logger and extra fields; the ids are the record's own, not attributes."""
    llmwatch.instrument(endpoint=receiver.endpoint, logs="export", sources=[])
    answers()
    logging.getLogger("program").debug("not enabled")
    llmwatch.flush()
    (span,) = receiver.spans()
    (record,) = receiver.events()
    assert record.body.string_value == "inside it"
    assert record.severity_text == "WARN"
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert {pair.key: pair.value.int_value for pair in record.attributes} == {"order": 7}


def test_what_exporting_says_is_not_exported(receiver: HttpReceiver) -> None:
    llmwatch.instrument(endpoint=receiver.endpoint, logs="export", sources=[])
    logging.getLogger("opentelemetry.exporter.x").error("failed to export")
    llmwatch.flush()
    assert receiver.events() == []


def test_undoing_leaves_nothing(receiver: HttpReceiver) -> None:
    """The method, the record factory and the root's handlers are the very same."""
    before = logging.Logger.callHandlers, logging.getLogRecordFactory(), list(logging.root.handlers)
    llmwatch.instrument(endpoint=receiver.endpoint, logs="export", sources=[])
    assert logging.root.handlers == before[2]
    llmwatch.uninstrument()
    after = logging.Logger.callHandlers, logging.getLogRecordFactory(), list(logging.root.handlers)
    assert after[0] is before[0]
    assert after[1:] == before[1:]


PROGRAM = """
import logging, sys
import llmwatch
if len(sys.argv) > 1:
    llmwatch.instrument(logs="export", sources=[], endpoint=sys.argv[1])
logging.warning("by the last resort") if "last" in sys.argv else None
logging.basicConfig(format="%(levelname)s:%(message)s", level=logging.INFO)
logging.info("configured")
logging.getLogger("a").propagate = False
logging.getLogger("a").warning("alone")
"""


def test_the_programs_own_output_is_what_it_was(receiver: HttpReceiver) -> None:
    """`basicConfig` still works, though records were exported before it."""
    ran = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *more],
            env=environment(), capture_output=True, text=True, check=True,
        )
        for more in ([], [receiver.endpoint])
    ]  # fmt: skip
    assert ran[0].stderr == ran[1].stderr
    assert "INFO:configured" in ran[0].stderr
    bodies = [event.body.string_value for event in receiver.events()]
    assert bodies == ["configured", "alone"]


def test_records_that_another_exports_are_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """Said once."""
    from opentelemetry import _logs
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
    from opentelemetry.sdk._logs import LoggerProvider

    provider = LoggerProvider(shutdown_on_exit=False)
    _logs.set_logger_provider(provider)
    theirs = LoggingHandler(logger_provider=provider)
    sent: list[Any] = []
    llmwatch.instrument(logs="export", sources=[])
    session = sys.modules["llmwatch.session"].current()
    assert isinstance(session._logs, ProgramLogs)
    session._logs._handler.emit = sent.append
    logging.root.addHandler(theirs)
    try:
        logging.getLogger("program").warning("one")
        logging.getLogger("program").warning("two")
    finally:
        logging.root.removeHandler(theirs)
    assert sent == []
    assert json.dumps([record.getMessage() for record in caplog.records]).count("already") == 1
