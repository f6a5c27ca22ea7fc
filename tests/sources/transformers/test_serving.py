"""``transformers serve``: the trace of a request goes on in the server.

The whole of it, with a real server, is in ``tests/integrations/test_transformers_serve.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from transformers.cli.serving import utils

from llmwatch import _guard, semconv
from llmwatch.sources.transformers import serving
from llmwatch.sources.transformers.asking import told
from llmwatch.testing import Captured, capture
from tests.sources.transformers import words

TRACE = "0123456789abcdef0123456789abcdef"
HEADERS = [(b"traceparent", f"00-{TRACE}-0123456789abcdef-01".encode())]


class App:
    """An application that notes the trace it is called in."""

    def __init__(self) -> None:
        self.traces: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")


def served(scope: Any) -> str:
    app = App()
    asyncio.run(serving.Continue(app)(scope, None, None))
    assert trace.get_current_span() is trace.INVALID_SPAN
    return app.traces[0]


def test_an_incoming_trace_is_taken_up() -> None:
    with capture():
        assert served({"type": "http", "headers": HEADERS}) == TRACE
        assert served({"type": "http", "headers": []}) == "0" * 32
        assert served({"type": "lifespan"}) == "0" * 32


def test_an_instrumentation_of_the_server_goes_first() -> None:
    app = App()
    with (
        capture() as seen,
        seen.tracer_provider.get_tracer("server").start_as_current_span("POST") as span,
    ):
        asyncio.run(serving.Continue(app)({"type": "http", "headers": HEADERS}, None, None))
    assert app.traces == [f"{span.get_span_context().trace_id:032x}"]


def test_nothing_is_taken_up_once_nobody_watches() -> None:
    assert served({"type": "http", "headers": HEADERS}) == "0" * 32


def test_headers_that_cannot_be_read_are_no_error_of_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    with capture():
        assert served({"type": "http", "headers": [None]}) == "0" * 32


def span_of(seen: Captured) -> Any:
    (found,) = [span for span in seen.spans if span.name != "request"]
    return found


async def test_work_on_the_servers_thread_belongs_to_its_request() -> None:
    thread = utils.InferenceThread()
    given = dict(words.tokenizer()(words.TEXTS[0], return_tensors="pt"), max_new_tokens=3)
    with (
        capture() as seen,
        seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span,
    ):
        result = await thread.async_submit(words.speaker().generate, **given)
    assert result.shape[0] == 1
    assert span_of(seen).parent.span_id == span.get_span_context().span_id
    with (
        capture() as seen,
        seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span,
    ):
        thread.submit(words.speaker().generate, **given).result()
    assert span_of(seen).parent.span_id == span.get_span_context().span_id


async def test_a_handler_says_what_kind_of_request_it_answers() -> None:
    class Handler:
        async def handle(self, body: Any, request_id: str) -> Any:
            asked = told()
            return None if asked is None else (asked.name, dict(asked.attributes))

    wrapped = Handler().handle
    found = await serving._handle("chat")(wrapped, None, ({}, "abc"), {})
    assert found == ("chat", {semconv.RESPONSE_ID: "abc"})
    assert told() is None
