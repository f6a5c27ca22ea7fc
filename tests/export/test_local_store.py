"""The store holds valid OTLP/JSON, stays within its bounds, and loses nothing silently."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from time import time
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry import _logs, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export import local_store
from llmwatch.export.dropped import dropped_counts
from llmwatch.export.local_store import StoreFile, default_directory, to_json
from llmwatch.export.store_reader import read_logs, read_metrics, read_spans
from tests.export.conftest import emit
from tests.receivers import REQUESTS, flushed

ATTRIBUTES = {
    "text": "naïve \u2028 \x00 “quotes”",
    "number": 2**53 + 1,
    "negative": -(2**63),
    "share": 0.25,
    "yes": True,
    "list": ["a", "b"],
    "numbers": [1, 2],
}


def files(directory: Path, signal: str = "*") -> list[Path]:
    return sorted(directory.glob(f"{signal}-*.jsonl"))


def size(directory: Path) -> int:
    return sum(each.stat().st_size for each in files(directory))


def test_what_is_written_can_be_read(pipeline: Any, tmp_path: Path) -> None:
    running = pipeline(store_path=tmp_path, service_name="shop")
    tracer = running.providers.tracer_provider.get_tracer("scope")
    with tracer.start_as_current_span("outer") as outer:
        link = Link(outer.get_span_context(), {"why": "test"})
        inner = tracer.start_span("inner", kind=SpanKind.CLIENT, links=[link])
        inner.set_attributes(ATTRIBUTES)
        inner.add_event("first token", {"index": 0}, timestamp=123)
        inner.set_status(Status(StatusCode.ERROR, "Boom"))
        inner.end()
        meter = running.providers.meter_provider.get_meter("scope")
        meter.create_histogram("time", unit="s", explicit_bucket_boundaries_advisory=[1, 2]).record(
            1.5, {"model": "m"}
        )
        meter.create_gauge("level").set(7)
        record = _logs.LogRecord(
            event_name="details",
            body={"deep": [{"list": 1}]},
            timestamp=456,
            severity_number=_logs.SeverityNumber.WARN,
            attributes={"a": 1},
        )
        running.providers.logger_provider.get_logger("scope").emit(record)
    assert flushed(running)

    spans = {span.name: span for span in read_spans(tmp_path)}
    found, context = spans["inner"], inner.get_span_context()
    assert found.trace_id == trace.format_trace_id(context.trace_id)
    assert found.span_id == trace.format_span_id(context.span_id)
    assert found.parent_id == spans["outer"].span_id
    assert spans["outer"].parent_id is None
    assert found.attributes == ATTRIBUTES
    assert (found.start, found.end) == (inner.start_time, inner.end_time)
    assert found.duration == pytest.approx((inner.end_time - inner.start_time) / 1e9)
    assert (found.kind, found.status, found.status_message) == (3, 2, "Boom")
    assert [(event.name, event.time, event.attributes) for event in found.events] == [
        ("first token", 123, {"index": 0})
    ]
    assert found.scope == "scope"
    assert found.resource["service.name"] == "shop"

    points = {point.metric: point for point in read_metrics(tmp_path)}
    time = points["time"]
    assert (time.kind, time.unit, time.temporality, time.value) == ("histogram", "s", 2, None)
    assert (time.count, time.sum, time.min, time.max) == (1, 1.5, 1.5, 1.5)
    assert (time.bounds, time.buckets) == ([1.0, 2.0], [0, 1, 0])
    assert time.attributes == {"model": "m"}
    assert (points["level"].kind, points["level"].value) == ("gauge", 7.0)

    (log,) = read_logs(tmp_path)
    assert (log.event_name, log.time, log.severity) == ("details", 456, 13)
    assert log.body == {"deep": [{"list": 1}]}
    assert log.attributes == {"a": 1}
    assert (log.trace_id, log.span_id) == (spans["outer"].trace_id, spans["outer"].span_id)


def test_lines_are_otlp_json_to_the_letter(pipeline: Any, tmp_path: Path) -> None:
    """Hex ids, integer enums, 64-bit integers as strings; protobuf's own parser takes the rest."""
    running = pipeline(store_path=tmp_path)
    emit(running.providers)
    running.flush(5)
    for signal, request in REQUESTS.items():
        for line in files(tmp_path, signal)[0].read_text().splitlines():
            Parse(line, request())
    text = files(tmp_path, "traces")[0].read_text()
    span = json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert len(span["traceId"]) == 32
    assert int(span["traceId"], 16)
    assert len(span["spanId"]) == 16
    assert span["kind"] == 1
    assert isinstance(span["startTimeUnixNano"], str)


def test_every_id_is_hex_and_attributes_called_like_one_stay() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("t")
    with tracer.start_as_current_span("outer") as outer:
        link = Link(outer.get_span_context(), {"traceId": "mine"})
        tracer.start_span("inner", links=[link], attributes={"traceId": "also mine"}).end()
    line = json.loads(to_json(encode_spans(kept.get_finished_spans())))
    inner = line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    outer_context = outer.get_span_context()
    assert inner["parentSpanId"] == trace.format_span_id(outer_context.span_id)
    assert inner["links"][0]["traceId"] == trace.format_trace_id(outer_context.trace_id)
    assert inner["links"][0]["attributes"][0]["value"] == {"stringValue": "mine"}
    assert inner["attributes"][0]["value"] == {"stringValue": "also mine"}


def test_only_the_owner_may_read_it(pipeline: Any, tmp_path: Path) -> None:
    running = pipeline(store_path=tmp_path / "new" / "store")
    emit(running.providers)
    running.flush(5)
    store = running.providers.store
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in files(store)} == {0o600}
    assert len(files(store)) == 3


def test_the_oldest_files_go_when_the_limit_is_reached(tmp_path: Path) -> None:
    store = StoreFile(tmp_path, "traces", 10_000)
    mine = tmp_path / "my-notes-2024.jsonl"
    mine.write_text("not ours")
    os.utime(mine, (0, 0))
    for number in range(200):
        line = json.dumps({"number": number, "filling": "x" * 400}).encode() + b"\n"
        assert store.append([(1, line)])
        assert size(tmp_path) - mine.stat().st_size <= 10_000
    numbers = [
        json.loads(line)["number"]
        for each in files(tmp_path, "traces")
        for line in each.read_text().splitlines()
    ]
    assert numbers == list(range(numbers[0], 200))
    assert len(numbers) > 10
    assert mine.exists()


def test_the_number_of_files_is_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_store, "MAX_FILES", 5)
    for _ in range(12):
        assert StoreFile(tmp_path, "logs", 1_000_000).append([(1, b"{}\n")])
    assert len(files(tmp_path)) == 5


def test_what_is_too_old_goes_whoever_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes when its last line is older; and is written to for a sixteenth of that."""
    began = time()
    other = StoreFile(tmp_path, "logs", 100_000)
    other.append([(1, b"{}\n")])
    store = StoreFile(tmp_path, "traces", 100_000, 1600.0)
    ages: list[float] = []
    for minute in range(100):
        now = began + 60 * minute
        monkeypatch.setattr(local_store, "time", lambda now=now: now)
        assert store.append([(1, b"%d\n" % minute)])
        assert store._path is not None
        os.utime(store._path, (now, now))
        lines = [
            int(each) for file in files(tmp_path, "traces") for each in file.read_text().split()
        ]
        assert lines == list(range(lines[0], minute + 1))
        ages.append(now - (began + 60 * lines[0]))
    assert 1600 - 60 - 100 < max(ages) <= 1600 + 100 + 60
    assert not files(tmp_path, "logs")


def test_a_clock_that_was_set_back_costs_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is of the future goes first, when room is needed; and no file takes lines for long."""
    began = time()
    wrong = StoreFile(tmp_path, "traces", 10_000, 1600.0)
    monkeypatch.setattr(local_store, "time", lambda: began + 86_400)
    for _ in range(20):
        assert wrong.append([(1, b"x" * 499 + b"\n")])
        assert wrong._path is not None
        os.utime(wrong._path, (began + 86_400, began + 86_400))
    ahead = wrong._path
    monkeypatch.setattr(local_store, "time", lambda: began)
    for number in range(15):
        assert wrong.append([(1, b"%499d\n" % number)])
        assert wrong._path != ahead
    lines = [line for file in files(tmp_path) for line in file.read_text().splitlines()]
    assert [int(line) for line in lines if "x" not in line] == list(range(15))
    assert 1 <= sum("x" in line for line in lines) <= 5


def test_without_an_age_nothing_is_too_old(tmp_path: Path) -> None:
    (tmp_path / "traces-20200101T000000.000000-1.jsonl").write_text("{}\n")
    os.utime(tmp_path / "traces-20200101T000000.000000-1.jsonl", (0, 0))
    assert StoreFile(tmp_path, "traces", 10**9).append([(1, b"{}\n")])
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("given", "seconds"), [(60, 60), ("7d", 604_800), ("12 h", 43_200), ("90", 90), (1.5, 1.5)]
)
def test_an_age_is_understood(given: Any, seconds: float) -> None:
    assert Config.load(store_age=given).store_age == seconds


@pytest.mark.parametrize("given", [0, -1, "7 weeks", "d", True, "1.2.3h"])
def test_an_age_that_is_none_is_told(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"store_age=.*'7d'"):
        Config.load(store_age=given)


def test_one_line_above_the_limit_is_dropped_and_counted_alone(tmp_path: Path) -> None:
    store = StoreFile(tmp_path, "traces", 1000)
    assert store.append([(2, b"{}\n"), (3, b"x" * 1001), (4, b"{}\n")])
    assert dropped_counts() == {"traces": 3}
    assert not store.append([(5, b"x" * 1001)])
    assert dropped_counts() == {"traces": 3}  # the caller counts what failed as a whole


PROCESS = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from llmwatch.config import Config
from llmwatch.export.pipeline import Pipeline
pipeline = Pipeline(Config.load(store_path=sys.argv[1], store_limit=200_000))
tracer = pipeline.providers.tracer_provider.get_tracer("t")
for number in range(40):
    for _ in range(20):
        tracer.start_span(sys.argv[2], attributes={"filling": "x" * 300}).end()
    pipeline.flush(5)
pipeline.undo()
"""


def test_several_processes_share_a_directory(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), name]) for name in "abc"
    ]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    one_batch = 20 * 700
    assert size(tmp_path) <= 200_000 + 2 * one_batch
    assert {span.name for span in read_spans(tmp_path)} <= set("abc")
    assert sum(1 for _ in read_spans(tmp_path)) > 100
    for each in files(tmp_path):
        assert all(json.loads(line) for line in each.read_text().splitlines())


def test_an_unwritable_directory_is_counted_and_said_once(
    pipeline: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    running = pipeline(store_path=blocker / "store")
    for _ in range(3):
        emit(running.providers)
        assert not running.flush(5)
    assert dropped_counts()["traces"] == 3
    assert dropped_counts()["logs"] == 3
    said = [each for each in caplog.records if each.name == "llmwatch"]
    assert len(said) == 3  # once a signal, not once a batch
    assert all("store_path=" in each.getMessage() for each in said)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from pathlib import Path
from llmwatch.export.local_store import StoreFile
store = StoreFile(Path(sys.argv[1]), "traces", 10_000_000)
print([store.append([(1, b'{"n": 1, "x": "' + b"y" * 380 + b'"}\\n')]) for _ in range(3)])
"""


def test_a_line_that_does_not_fit_leaves_no_torn_one(tmp_path: Path) -> None:
    """The system stops a write half-way, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[True, True, False]"
    (file,) = files(tmp_path)
    assert [json.loads(line)["n"] for line in file.read_text().splitlines()] == [1, 1]


def test_a_torn_line_is_skipped_when_read(pipeline: Any, tmp_path: Path) -> None:
    running = pipeline(store_path=tmp_path)
    emit(running.providers)
    running.flush(5)
    with files(tmp_path, "traces")[0].open("ab") as file:
        file.write(b'{"resourceSpans": [{"sco')
    assert [span.name for span in read_spans(tmp_path)] == ["hello"]


def test_a_file_that_somebody_removed_is_made_again(pipeline: Any, tmp_path: Path) -> None:
    running = pipeline(store_path=tmp_path)
    for name in ("one", "two"):
        emit(running.providers, name)
        assert flushed(running)
        for each in files(tmp_path):
            if name == "one":
                each.unlink()
    assert [span.name for span in read_spans(tmp_path)] == ["two"]


def test_reading_what_is_not_there_finds_nothing(tmp_path: Path) -> None:
    assert list(read_spans(tmp_path / "nowhere")) == []


def test_the_default_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert default_directory() == tmp_path / ".local" / "state" / "llmwatch"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_directory() == tmp_path / "state" / "llmwatch"
