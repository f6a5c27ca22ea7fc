"""The page and the report in a real browser, over what a real program records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmwatch.view.records import Filter, Request, View
from llmwatch.view.store import open_view
from tests.view.ui.conftest import Opened, Recorded, environment, serving
from tests.view.ui.program import HOSTILE

expect = pytest.importorskip("playwright.sync_api", reason="needs the package playwright").expect
if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = ("", "requests", "layers", "machine", "drift")
UNKNOWN = "·"


@pytest.fixture
def view(recorded: Recorded) -> Iterator[View]:
    view = open_view(recorded.store)
    yield view
    view.close()


def one(view: View, **by: Any) -> Request:
    """The latest request of a kind."""
    (row,) = view.requests(Filter(**by), limit=1)
    found = view.request(row.trace_id, row.span_id)
    assert found is not None
    return found


def link(url: str, request: Request) -> str:
    return f"{url}/#/request/{request.row.trace_id}/{request.row.span_id}"


def written(page: Page, form: str, *values: float | None) -> list[str]:
    """Values as the page writes them."""
    found: list[str] = page.evaluate(f"values => values.map(format.{form})", list(values))
    return found


def test_no_page_asks_anybody_else_or_runs_what_was_recorded(
    window: Opened, url: str, view: View
) -> None:
    for name in PAGES:
        window.go(f"{url}/#/{name}?last=all")
    page = window.go(link(url, one(view, route=HOSTILE, operation="chat")))
    assert page.inner_text("header.request .chip") == HOSTILE
    assert HOSTILE in page.inner_text(".message.answer")
    assert HOSTILE in page.inner_text(".logs summary >> nth=0")
    assert HOSTILE in page.inner_text(".attributes >> nth=0")
    assert page.locator("main img").count() == 0
    assert all(each.startswith((url, "about:")) for each in window.asked)


def test_numbers_on_the_page_are_those_of_the_view(window: Opened, url: str, view: View) -> None:
    page = window.go(f"{url}/#/?last=all")
    rows = view.operations(Filter())
    assert page.locator("main tbody tr").count() == len(rows)
    for row in rows:
        cells = page.locator("main tbody tr").filter(
            has=page.get_by_text(row.operation, exact=True)
        )
        if row.model is not None:
            cells = cells.filter(has=page.get_by_text(row.model, exact=True))
        if row.route is not None:
            cells = cells.filter(has=page.get_by_text(row.route, exact=True))
        said = cells.first.inner_text().split("\t")
        p50, p95 = written(page, "seconds", row.duration_p50, row.duration_p95)
        first, late = written(page, "seconds", row.ttft_p50, row.ttft_p95)
        (cost,) = written(page, "dollars", row.cost)
        assert said[3] == str(row.count)
        assert [said[6], said[7], said[11]] == [p50 + p95, first + late, cost]


def test_a_stream_shows_while_the_page_is_open(
    window: Opened, url: str, recorded: Recorded
) -> None:
    page = window.go(f"{url}/#/requests?last=all")
    page.evaluate("window.same = true")
    recorded.stream("while you look")
    row = page.locator("main tbody tr", has_text="while you look")
    row.wait_for()
    assert row.count() == 1
    page.get_by_role("button", name="live").click()
    recorded.stream("held")
    page.wait_for_timeout(1500)
    assert page.locator("main tbody tr", has_text="held").count() == 0
    page.keyboard.press("p")
    page.locator("main tbody tr", has_text="held").wait_for()
    assert page.evaluate("window.same")


def test_a_request_is_opened_by_keys_and_its_tokens_walked_through(
    window: Opened, url: str, view: View
) -> None:
    page = window.go(f"{url}/#/requests?last=all&route=chat, streamed")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tokens svg path.stall")
    request = one(view, route="chat, streamed")
    assert request.row.span_id in page.url
    assert f"{len(request.tokens)} chunks" in page.inner_text(".tokens .values")
    assert "1 stall" in page.inner_text(".tokens .values")
    page.focus(".tokens svg")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    third, second = request.tokens[2], request.tokens[1]
    at, gap = written(page, "seconds", third, third - second)
    said = page.inner_text(".tokens .values")
    assert f"3 of {len(request.tokens)}" in said
    assert f"at {at}" in said
    assert f"gap {gap}" in said


def test_a_local_request_is_a_waterfall_of_phases_and_layers(
    window: Opened, url: str, view: View
) -> None:
    request = one(view, route="local")
    page = window.go(link(url, request))
    rows = page.locator(".waterfall [role=treeitem]")
    names = [each.strip("▾▸ ") for each in rows.locator(".name").all_inner_texts()]
    assert names[0] == request.spans[0].name
    assert "prefill" in names
    assert any(name.startswith("model.layers.") for name in names)
    (took,) = written(page, "seconds", request.prefill)
    assert rows.filter(has_text="prefill").locator(".length").inner_text() == took
    rows.first.press("ArrowDown")  # to the prefill
    page.locator(".row.chosen").press("ArrowLeft")
    assert rows.count() < len(names)
    layer = page.locator(".row", has_text="decode").first
    layer.press("ArrowRight")
    page.locator(".row", has_text="model.layers.").first.click()
    assert "llmwatch.layer.name" in page.inner_text(".details")


def test_the_heat_map_has_a_cell_for_each_layer_and_phase(
    window: Opened, url: str, view: View
) -> None:
    page = window.go(f"{url}/#/layers?last=all")
    cells = view.layers(Filter())
    assert cells
    assert page.locator(".heat td.cell:not(.none)").count() == len(cells)
    titles = page.locator(".heat td.cell").evaluate_all("cells => cells.map(cell => cell.title)")
    for cell in cells:
        (mean,) = written(page, "seconds", cell.mean)
        said = f"{cell.layer} ({cell.layer_type})\n{cell.phase}: {mean} a pass, {cell.count} passes"
        assert any(title.startswith(said) for title in titles)


def test_charts_that_are_no_longer_shown_are_let_go(window: Opened, url: str) -> None:
    page = window.go(f"{url}/#/machine?last=all")
    for _ in range(3):
        for key, ready in zip("12345", ("overview", *PAGES[1:]), strict=True):
            page.keyboard.press(key)
            page.wait_for_selector(f"main[data-ready={ready}]")
    drawn, shown = page.evaluate("[charts.living.size, document.querySelectorAll('.plot').length]")
    assert drawn == shown


def test_drift_that_was_raised_and_cleared_is_told(window: Opened, url: str, view: View) -> None:
    page = window.go(f"{url}/#/drift?last=all")
    assert page.inner_text(".monitor h2") == "sentences"
    assert "as the reference" in page.inner_text(".monitor header")
    assert "cleared" in page.inner_text(".finding summary")
    (light,) = view.drift(Filter())
    assert written(page, "number", light.p_value)[0] in page.inner_text(".monitor .facts")


def test_choosing_a_span_of_time_in_a_chart_filters_by_it(window: Opened, url: str) -> None:
    page = window.go(f"{url}/#/?last=all")
    box = page.locator(".chart .u-over").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.up()
    page.wait_for_url("**since=*")
    assert "until=" in page.url
    page.locator(".times button").click()
    assert "since" not in page.url


def test_what_a_filter_says_is_in_the_address(window: Opened, url: str, view: View) -> None:
    page = window.go(f"{url}/#/requests?last=all")
    page.keyboard.press("/")
    page.keyboard.type("APIConn")
    page.wait_for_url("**text=APIConn")
    rows = page.locator("main tbody tr")
    expect(rows).to_have_count(1)
    again = window.go(page.url)
    assert again.locator("main tbody tr").count() == 1
    assert "APIConnectionError" in rows.first.inner_text()
    page.get_by_label("failed only").check()
    assert "errors=1" in page.url
    trace = view.requests(Filter(errors=True))[0].trace_id
    window.go(f"{url}/trace/{trace}")
    assert page.inner_text("header.request .outcome") == "✕APIConnectionError"


def test_a_narrow_window_scrolls_down_only(window: Opened, url: str, view: View) -> None:
    window.page.set_viewport_size({"width": 360, "height": 700})
    for address in [*(f"{url}/#/{name}?last=all" for name in PAGES), link(url, one(view, route=HOSTILE, operation="chat"))]:  # fmt: skip
        page = window.go(address)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def test_an_empty_store_says_what_to_do(window: Opened, tmp_path: Path) -> None:
    with serving(tmp_path / "none", "--listen", "0") as url:
        page = window.go(url)
        assert "llmwatch.instrument()" in page.inner_text("main")
        assert str(tmp_path / "none") in page.inner_text("main")
        for name in PAGES[2:]:
            window.go(f"{url}/#/{name}")
            assert page.locator("main .empty").count() == 1
        window.go(url)
        endpoint = page.locator("pre", has_text="OTLP_ENDPOINT").inner_text().partition("=")[2]
        send_a_span(endpoint)
        page.get_by_role("link", name="chat").wait_for()


def send_a_span(endpoint: str) -> None:
    """What any program with OpenTelemetry sends."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("theirs")
    tracer.start_span("chat theirs", attributes={"gen_ai.operation.name": "chat"}).end()
    provider.shutdown()


def report(store: Path, to: Path, *options: str) -> str:
    """What the command writes."""
    command = [sys.executable, "-m", "llmwatch.cli", "report", "--path", store, "-o", to, *options]
    subprocess.run(command, check=True, env=environment(), capture_output=True)
    return to.read_text()


def test_the_report_opens_from_its_file_without_any_network(
    window: Opened, recorded: Recorded, view: View, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    html = report(recorded.store, file)
    assert file.stat().st_mode & 0o077 == 0
    assert len(html) < 3_000_000
    window.page.context.set_offline(True)
    for name in PAGES:
        window.go(f"{file.as_uri()}#/{name}")
    page = window.go(f"{file.as_uri()}#/")
    assert page.locator("main tbody tr").count() == len(view.operations(Filter()))
    page.keyboard.press("2")
    page.get_by_label("failed only").check()
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.locator("main tbody tr").click()
    page.wait_for_selector(".waterfall")
    hostile = one(view, route=HOSTILE, operation="chat")
    page = window.go(link(file.as_uri().removesuffix("/"), hostile).replace("/#/", "#/"))
    assert page.inner_text("header.request .chip") == HOSTILE
    assert page.locator(".messages").count() == 0
    assert all(each.startswith((file.as_uri(), "data:image", "about:")) for each in window.asked)


def test_a_report_with_content_shows_it_as_text(
    window: Opened, recorded: Recorded, view: View, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    report(recorded.store, file, "--content")
    address = link(file.as_uri(), one(view, route=HOSTILE, operation="chat")).replace("/#/", "#/")
    page = window.go(address)
    assert HOSTILE in page.inner_text(".message.answer")
    assert HOSTILE in page.inner_text(".logs summary >> nth=0")
