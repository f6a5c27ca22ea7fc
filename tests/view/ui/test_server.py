"""Who may ask the server, what it answers, and what a browser may do with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from llmwatch.view.store import open_view
from llmwatch.view.ui import page, serve
from llmwatch.view.ui.app import application
from llmwatch.view.ui.guard import HEADERS
from llmwatch.view.ui.reader import Reader
from tests.stores import fill

PATHS = ("/", "/api/overview", "/static/app.js", "/api/none", "/nowhere")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("store")
    fill(where, 300)
    return where


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    view = open_view(store)
    app = application(view, names=["desk"], about={"path": str(store)})
    with TestClient(app, base_url="http://127.0.0.1:4319", follow_redirects=False) as client:
        yield client
    view.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7", "", "[::2]"]
)
def test_a_name_that_is_not_the_servers_is_turned_away(
    client: TestClient, path: str, host: str
) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["Content-Security-Policy"] == page.POLICY


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:4319", "127.0.0.1", "127.8.9.1:1", "[::1]:4319", "Desk:4319"])  # fmt: skip
def test_its_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("192.168.0.7:4319", 200), ("evil.example", 421)])
def test_to_other_machines_it_answers_by_address_and_not_by_names(
    store: Path, host: str, status: int
) -> None:
    view = open_view(store)
    client = TestClient(application(view, loopback=False), base_url=f"http://{host}")
    assert client.get("/api/state").status_code == status
    view.close()


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_says_what_may_be_done_with_it(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/overview", "/api/news", "/static/app.js"])
def test_it_only_reads(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405


def test_every_part_of_the_page_is_there(client: TestClient) -> None:
    html = client.get("/").text
    for name in (*page.SCRIPTS, *page.STYLES, "icon.svg"):
        assert f"static/{name}" in html
        assert client.get(f"/static/{name}").status_code == 200


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"]
)
def test_nothing_but_the_page_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_cannot_be_asked_is_said_to_be_so(client: TestClient) -> None:
    assert client.get("/api/none").status_code == 404
    assert client.get("/api/request?trace=0&span=0").status_code == 404
    answer = client.get("/api/overview?since=soon")
    assert answer.status_code == 400
    assert "since='soon'" in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_trace_is_found_by_its_id(client: TestClient) -> None:
    assert client.get("/trace/0af7").headers["Location"] == "/#/request/0af7"
    for strange in ("/trace/..%2f..", "/trace/%22onload", "/trace/a%0d%0ab"):
        assert client.get(strange).status_code == 404


def test_the_page_knows_where_it_reads(client: TestClient, store: Path) -> None:
    assert client.get("/api/state").json()["path"] == str(store)


async def test_news_come_at_the_start_and_when_something_was_written(tmp_path: Path) -> None:
    view = open_view(tmp_path)
    reader = Reader(view)
    news = reader.news()
    first = await anext(news)
    fill(tmp_path, 10)
    second = await anext(news)
    assert first is not None
    assert second is not None, "the writer kept the index, and the view did not see it"
    assert second > first
    assert len(await reader.ask(lambda view: view.services())) > 0
    reader.close()
    assert [each async for each in news] == []
    view.close()


def test_other_machines_are_let_in_only_if_that_is_said_twice() -> None:
    for host in ("0.0.0.0", "::", "example.com", "10.0.0.1"):
        with pytest.raises(serve.ServerError, match="--remote"):
            serve.bind(host, 0)
    serve.bind("0.0.0.0", 0, remote=True).close()


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with serve.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert serve.url_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(serve.ServerError, match=f"127.0.0.1:{port}.*--port"):
            serve.bind("127.0.0.1", port)


def test_the_url_of_every_address_is_one_that_a_browser_can_open() -> None:
    with serve.bind("0.0.0.0", 0, remote=True) as taken:
        assert serve.url_of(taken).startswith("http://127.0.0.1:")
    if socket.has_ipv6:
        with serve.bind("::1", 0) as taken:
            assert serve.url_of(taken).startswith("http://[::1]:")
