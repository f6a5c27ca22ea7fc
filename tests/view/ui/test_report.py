"""The report: what is in it, what is not, and how long it can get."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from llmwatch import semconv
from llmwatch.cli.commands import cli
from llmwatch.config import Config
from llmwatch.export.local_store import StoreLogExporter, StoreSpanExporter
from llmwatch.view.records import Filter, View
from llmwatch.view.store import open_view
from llmwatch.view.ui import report as module
from llmwatch.view.ui.content import PRIVATE
from llmwatch.view.ui.page import inlined
from llmwatch.view.ui.report import DETAILED, LISTED, report
from tests.stores import fill

SECRET = "the harbour at dusk"
END = "</script><script>alert(1)</script><!--"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("store")
    fill(where, 2500)
    return where


@pytest.fixture
def view(store: Path) -> Iterator[View]:
    view = open_view(store)
    yield view
    view.close()


def data(html: str) -> Any:
    """What the page of a report finds in it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


def test_its_requests_are_the_latest_the_slowest_and_the_failed(view: View) -> None:
    rows = view.requests(Filter(), limit=100_000)
    assert len(rows) > LISTED["latest"] + LISTED["slowest"]
    found = data(report(view, Filter()))
    listed = {row["span_id"] for row in found["answers"]["requests"]["requests"]}
    slowest = sorted(rows, key=lambda row: -row.duration)
    failed = [row for row in rows if row.outcome == "error"]
    for kind, ordered in {"latest": rows, "slowest": slowest, "failed": failed}.items():
        assert {row.span_id for row in ordered[: LISTED[kind]]} <= listed
        details = {f"{row.trace_id}/{row.span_id}" for row in ordered[: DETAILED[kind]]}
        assert details <= set(found["details"])
    assert len(listed) <= sum(LISTED.values())


def test_its_tables_are_of_everything_in_its_time_and_service(view: View) -> None:
    operations = data(report(view, Filter(service="shop")))["answers"]["overview"]["operations"]
    asked = view.operations(Filter(service="shop"))
    assert [row["count"] for row in operations] == [row.count for row in asked]


def test_details_end_where_they_become_too_long(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DETAILS", 50_000)
    details = data(report(view, Filter()))["details"]
    assert 1 < len(details) < DETAILED["latest"]
    assert len(json.dumps(details)) < 60_000


def test_of_many_spans_the_own_its_ancestors_and_the_longest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_SPANS", 5)
    spans = [
        {
            "id": str(number),
            "parent": str(number - 1) if 0 < number < 4 else None,
            "duration": number,
        }
        for number in range(20)
    ]
    kept = module._shortened({"spans": spans, "row": {"span_id": "3"}})["spans"]
    assert [span["id"] for span in kept] == ["0", "1", "2", "3", "19"]


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A store in which everything that can hold content does."""
    config = Config.load(store_path=str(tmp_path))
    spans, logs = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(StoreSpanExporter(config)))
    logs.add_log_record_processor(SimpleLogRecordProcessor(StoreLogExporter(config)))
    span = spans.get_tracer("test").start_as_current_span(
        "chat gpt",
        attributes={
            semconv.OPERATION_NAME: "chat",
            semconv.REQUEST_MODEL: f"gpt {END}",
            "gen_ai.prompt.0.content": SECRET,
            "my.own": SECRET,
            **dict.fromkeys(PRIVATE, SECRET),
        },
    )
    with span as current:
        current.add_event("exception", {semconv.EXCEPTION_MESSAGE: SECRET, "theirs": SECRET})
        current.set_status(Status(StatusCode.ERROR, SECRET))
        logs.get_logger("test").emit(body=SECRET, attributes={"theirs": SECRET})
    spans.shutdown()
    logs.shutdown()
    return tmp_path


@pytest.mark.parametrize("content", [False, True])
def test_what_was_said_is_in_it_only_if_asked(told: Path, content: bool) -> None:
    view = open_view(told)
    html = report(view, Filter(), content=content)
    view.close()
    assert html.count(SECRET) == (0 if not content else len(PRIVATE) + 7)
    assert len(data(html)["details"]) == 1


def test_nothing_recorded_ends_the_data_or_the_page(told: Path) -> None:
    view = open_view(told)
    html = report(view, Filter())
    view.close()
    assert END not in html
    assert data(html)["answers"]["overview"]["operations"][0]["model"] == f"gpt {END}"
    assert html.count("<!--") == 0


def test_a_browser_may_run_its_scripts_and_load_nothing() -> None:
    html = inlined("report", {"a": 1})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    for script in re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL):
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert not re.search(r'(src|href)="(?!data:)', html.partition("<script>")[0])


def test_the_command_says_what_it_wrote_and_what_it_did_not_find(
    store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.html"
    given = CliRunner().invoke(cli, ["report", "--path", str(store), "-o", str(file)])
    assert given.exit_code == 0, given.output
    assert str(file) in given.output
    assert data(file.read_text())["details"]
    missing = CliRunner().invoke(cli, ["report", "--path", str(tmp_path / "no"), "-o", str(file)])
    assert missing.exit_code == 1
    assert "no request" in missing.output
    wrong = CliRunner().invoke(cli, ["report", "--since", "soon"])
    assert wrong.exit_code == 2
    nowhere = tmp_path / "no" / "r.html"
    there = CliRunner().invoke(cli, ["report", "--path", str(store), "-o", str(nowhere)])
    assert there.exit_code == 1
    assert f"cannot write {nowhere}" in there.output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_or_a_device_is_written_to_and_stays(store: Path, tmp_path: Path) -> None:
    """And is not removed for a file of its name: somebody may mean /dev/null, as root."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as other:
        read = other.submit(pipe.read_text, "utf-8")
        done = CliRunner().invoke(cli, ["report", "--path", str(store), "-o", str(pipe)])
        assert done.exit_code == 0, done.output
        assert data(read.result(60))["details"]
    assert pipe.is_fifo()


def test_the_page_is_not_served_to_others_by_mistake(tmp_path: Path) -> None:
    given = CliRunner().invoke(cli, ["ui", "--host", "0.0.0.0", "--path", str(tmp_path)])
    assert given.exit_code == 1
    assert "--remote" in given.output
    none = CliRunner().invoke(cli, ["ui", "--port", "65536", "--path", str(tmp_path)])
    assert none.exit_code == 2
