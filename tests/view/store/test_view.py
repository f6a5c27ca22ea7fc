"""Whatever is in the store, the index answers as a walk through all of its files would."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from llmwatch import semconv_layers as layers
from llmwatch.config import Config
from llmwatch.export.local_store import StoreLogExporter
from llmwatch.view.records import Filter, Series
from llmwatch.view.store import StoreView
from tests.view.store import made, naive

NOW = made.BEGUN + 100 * 10**9

some_time = st.none() | made.times
filters = st.builds(
    Filter,
    since=some_time,
    until=some_time,
    service=st.sampled_from([None, None, "shop", "nobody"]),
    operation=st.sampled_from([None, None, "chat"]),
    model=st.sampled_from([None, None, "gpt", "answered"]),
    route=st.sampled_from([None, None, "night"]),
    errors=st.booleans(),
    text=st.sampled_from(["", "", "ÄRG", "llam", "limited", "00000003", "über", "%", "_"]),
)


@contextmanager
def view(where: Path) -> Iterator[StoreView]:
    opened = StoreView(where, now=lambda: NOW)
    try:
        yield opened
    finally:
        opened.close()


def approximately(expected: Any) -> Any:
    """Equal, but for the order in which numbers were added."""
    if isinstance(expected, float):
        return pytest.approx(expected, rel=1e-9, abs=1e-12)
    if isinstance(expected, (list, tuple)):
        return type(expected)(approximately(each) for each in expected)
    return expected


def row(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, field.name) for field in dataclasses.fields(record))


def assert_operations(opened: StoreView, where: Path, by: Filter) -> None:
    found = [row(each) for each in opened.operations(by)]
    assert found == approximately(naive.table(where, by, NOW))
    latest = opened.requests(by, limit=1000)
    assert sorted(map(row, latest), key=str) == sorted(
        map(naive.request, naive.chosen(where, by)), key=str
    )
    ends = [each.start + round(each.duration * 1e9) for each in latest]
    assert ends == sorted(ends, reverse=True)
    assert opened.requests(by, limit=2) == latest[:2]


@settings(max_examples=60)
@given(batches=st.lists(made.distinct_spans, max_size=5), by=st.lists(filters, max_size=3))
def test_operations_and_requests(batches: Any, by: list[Filter]) -> None:
    with TemporaryDirectory() as directory:
        where = Path(directory)
        writer, seen = made.Writer(where), {}
        with view(where) as kept:
            for turn, batch in enumerate(batches):
                fresh = [each for each in batch if _new(each, seen)]
                writer.write(fresh, turn)
                kept.refresh()
            for each in (Filter(), *by):
                assert_operations(kept, where, each)
            for file in sorted(where.glob("traces-*"))[:1]:
                file.unlink()
                assert kept.refresh()
            for each in (Filter(), *by):
                assert_operations(kept, where, each)
        for file in where.glob("index.db*"):
            file.unlink()
        with view(where) as rebuilt:
            for each in (Filter(), *by):
                assert_operations(rebuilt, where, each)


def _new(span: Any, seen: dict[Any, Any]) -> bool:
    key = span.context.trace_id, span.context.span_id
    return seen.setdefault(key, span) is span


@settings(max_examples=30)
@given(batch=made.distinct_spans)
def test_a_span_that_was_sent_twice_counts_once(batch: Any) -> None:
    with TemporaryDirectory() as directory:
        where = Path(directory)
        writer = made.Writer(where)
        with view(where) as kept:
            for turn in range(3):
                writer.write(batch, turn)
                kept.refresh()
            assert_operations(kept, where, Filter())


@settings(max_examples=60)
@given(said=st.lists(made.streams(), max_size=5), by=filters, most=st.integers(1, 10))
def test_series_and_layers(said: Any, by: Filter, most: int) -> None:
    metrics = ["gauge", "level", "sum", "delta"]
    with TemporaryDirectory() as directory:
        where = Path(directory)
        writer = made.Writer(where)
        taken: set[Any] = set()
        with view(where) as kept:
            for stream in said:
                for data in stream:
                    if _point_is_new(data, taken):
                        writer.say(data)
                kept.refresh()
            found = {
                _name(each): (each.times, each.values) for each in kept.series(metrics, by, most)
            }
            expected = naive.series(where, metrics, by, most)
            assert sorted(map(str, found.values())) == sorted(map(str, expected.values())) or (
                sorted(found.values()) == approximately(sorted(expected.values()))
            )
            cells = {
                (cell.service, cell.model, cell.layer, cell.phase, cell.device): cell
                for cell in kept.layers(by)
            }
            timed = naive.cells(where, by)
            assert {place: cell.count for place, cell in cells.items()} == {
                place: count for place, (count, _) in timed.items()
            }
            for place, (count, seconds) in timed.items():
                assert cells[place].mean == pytest.approx(seconds / count)


def _name(series: Series) -> str:
    return f"{series.metric} {series.service} {json.dumps(series.attributes)} {id(series)}"


def _point_is_new(data: Any, taken: set[Any]) -> bool:
    """A process says one thing of one metric at one time, and in order."""
    of_resource = data.resource_metrics[0]
    metric = of_resource.scope_metrics[0].metrics[0]
    point = metric.data.data_points[0]
    temporality = getattr(metric.data, "aggregation_temporality", None)
    key = (str(of_resource.resource.attributes), metric.name, str(point.attributes))
    ours = (*key, temporality, point.time_unix_nano)
    mixed = any(each[:3] == key and each[3] != temporality for each in taken)
    new = ours not in taken and not mixed
    taken.add(ours)
    return new


events = st.lists(
    st.tuples(
        st.sampled_from([layers.EVENT_FINDING_RAISED, layers.EVENT_FINDING_CLEARED]),
        st.sampled_from(["nan_first", "time_beyond_flops"]),
        st.integers(0, 1),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(said=events, by=filters)
def test_findings(said: Any, by: Filter) -> None:
    by = Filter(since=by.since, until=by.until, service=by.service)
    with TemporaryDirectory() as directory:
        where = Path(directory)
        exporter = StoreLogExporter(Config.load(store_path=where))
        for second, (event, kind, process) in enumerate(said):
            provider = LoggerProvider(
                Resource({"service.name": "shop", "service.instance.id": str(process)}),
                shutdown_on_exit=False,
            )
            provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
            provider.get_logger("made").emit(
                _logs.LogRecord(
                    event_name=event,
                    timestamp=made.BEGUN + second * 10**9,
                    attributes={layers.FINDING_KIND: kind, layers.FINDING_TEXT: "look"},
                    context=None,
                )
            )
        with view(where) as opened:
            found = opened.findings(by)
        if by.service in (None, "shop"):
            assert [each.raised for each in found] == [
                raised for _, _, raised, _ in naive.findings(where, by)
            ]
            assert [each.cleared for each in found] == [
                cleared for *_, cleared in naive.findings(where, by)
            ]
        else:
            assert found == []


def test_nothing_is_in_a_store_that_is_not_there(tmp_path: Path) -> None:
    with view(tmp_path / "nowhere") as opened:
        assert not opened.refresh()
        assert opened.services() == []
        assert opened.operations(Filter()) == []
        assert opened.requests(Filter()) == []
        assert opened.request("00", "00") is None
        assert opened.request("not hex", "") is None
        assert opened.series(["gauge"], Filter()) == []
        assert opened.layers(Filter()) == []
        assert opened.drift(Filter()) == []
        assert opened.findings(Filter()) == []
    assert not (tmp_path / "nowhere").exists()
