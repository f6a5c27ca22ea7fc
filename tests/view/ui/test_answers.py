"""The page gets what the view says, number by number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from llmwatch.view.records import Filter, Request, View
from llmwatch.view.store import open_view
from llmwatch.view.ui import shape
from llmwatch.view.ui.answers import ANSWERS
from llmwatch.view.ui.query import MOST_ROWS, QueryError, filter_of, limit_of
from tests.stores import BEGUN, SECOND, fill


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    where = tmp_path_factory.mktemp("store")
    fill(where, 1500)
    view = open_view(where)
    yield view
    view.close()


def told(view: View, name: str, **query: str) -> Any:
    """An answer, as a browser reads it."""
    return json.loads(json.dumps(ANSWERS[name](view, query), allow_nan=False))


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"service": "shop"},
        {"model": "gpt-4o", "errors": "1"},
        {"route": "nächtlich", "operation": "chat"},
        {"text": "TIMEOUT"},
        {"since": str(BEGUN / 1e9 + 100), "until": str(BEGUN / 1e9 + 200)},
    ],
    ids=str,
)
def test_operations_and_requests_are_the_views(view: View, query: dict[str, str]) -> None:
    by = filter_of(query)
    for row, said in zip(
        view.operations(by), told(view, "overview", **query)["operations"], strict=True
    ):
        assert all(said[name] == getattr(row, name) for name in said)
    requests = told(view, "requests", **query)["requests"]
    for row, said in zip(view.requests(by), requests, strict=True):
        assert said.pop("start") == row.start / 1e9
        assert all(said[name] == getattr(row, name) for name in said)


def test_the_charts_count_every_request_once_where_it_ended(view: View) -> None:
    moments = told(view, "overview")["moments"]
    rows = view.requests(Filter(), limit=100_000)
    width = moments["width"]
    ended = Counter((row.start + round(row.duration * SECOND)) // (width * SECOND) for row in rows)
    begins = [time / width for time in moments["times"]]
    assert [rate * width for rate in moments["rates"]] == [ended[int(each)] for each in begins]
    failed = sum(row.outcome == "error" for row in rows)
    assert sum(moments["errors"]) * width == pytest.approx(failed)
    tokens = sum(row.output_tokens or 0 for row in rows)
    assert sum(moments["output_tokens"]) * width == pytest.approx(tokens)
    assert len(begins) <= 121


def test_percentiles_of_a_moment_are_those_of_its_requests(view: View) -> None:
    moments = view.moments(Filter(), points=5)
    slots: dict[int, list[float]] = {}
    for row in view.requests(Filter(), limit=100_000):
        if row.ttft is not None:
            end = row.start + round(row.duration * SECOND)
            slots.setdefault(end // round(moments.width * SECOND), []).append(row.ttft)
    for time, low, high in zip(moments.times, moments.ttft_p50, moments.ttft_p95, strict=True):
        found = sorted(slots.get(time // round(moments.width * SECOND), []))
        rank = {
            share: found[ceil(share * len(found)) - 1] if found else None for share in (0.5, 0.95)
        }
        assert (low, high) == (rank[0.5], rank[0.95])


def test_moments_of_nothing_are_none(view: View) -> None:
    assert told(view, "overview", service="nobody")["moments"]["times"] == []


def whole(view: View) -> Request:
    row = next(row for row in view.requests(Filter(operation="invoke_agent"), limit=1000))
    found = view.request(row.trace_id, row.span_id)
    assert found is not None
    return found


def test_a_request_is_the_views_with_times_from_its_start(view: View) -> None:
    request = whole(view)
    row = request.row
    said = told(view, "request", trace=row.trace_id, span=row.span_id)
    assert said["tokens"] == request.tokens
    assert said["row"]["duration"] == row.duration
    for span, shown in zip(request.spans, said["spans"], strict=True):
        assert shown["at"] == (span.start - row.start) / 1e9
        assert shown["duration"] == span.duration
        assert shown["attributes"] == span.attributes


def test_a_trace_alone_leads_to_its_outermost_request(view: View) -> None:
    request = whole(view)
    said = told(view, "request", trace=request.row.trace_id)
    assert said["row"]["span_id"] == request.row.span_id
    assert told(view, "request", trace="0" * 32) is None


def test_what_there_is_to_choose_from_does_not_shrink_with_the_choice(view: View) -> None:
    everything = told(view, "choices")
    assert told(view, "choices", model="gpt-4o") == everything
    rows = view.requests(Filter(), limit=100_000)
    assert everything["count"] == len(rows)
    assert everything["choices"]["model"] == sorted({row.model for row in rows if row.model})


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "soon", "1e30", "1e10", "-1e10", "1; DROP TABLE"]
)
@pytest.mark.parametrize("name", ["since", "until", "last"])
def test_a_time_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(QueryError, match=name):
        filter_of({name: value})


@pytest.mark.parametrize(
    ("given", "limit"), [("", 200), ("1", 1), ("0", 1), ("9999999", MOST_ROWS)]
)
def test_rows_are_limited(given: str, limit: int) -> None:
    assert limit_of({"limit": given}) == limit


def test_numbers_that_json_lacks_are_said_in_words() -> None:
    given = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}}
    assert shape.plain(given) == {"a": "nan", "b": ["inf", 1.5], "c": {"d": "-inf"}}


def test_an_empty_store_answers_everything(tmp_path: Path) -> None:
    view = open_view(tmp_path / "none")
    for name in set(ANSWERS) - {"request"}:
        assert told(view, name) is not None
    assert told(view, "state")["latest"] is None
    view.close()
