"""What settings and the surroundings change: usage asked for, context sent on, suppression."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

import llmwatch
from llmwatch import semconv
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from llmwatch.testing import Captured, capture
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


# --- usage of streams ---------------------------------------------------------------------------


def test_usage_is_asked_for_and_its_chunk_hidden(server: Server, client: OpenAI) -> None:
    """The span has the usage; the user sees the very chunks they would have seen."""
    plain = [
        chunk.choices[0].delta.content
        for chunk in client.chat.completions.create(**ASK, stream=True)
    ]
    with capture(stream_usage=True) as seen:
        chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == plain
    assert server.last.json["stream_options"] == {"include_usage": True}
    assert seen.spans[0].attributes[semconv.USAGE_OUTPUT_TOKENS] > 0


async def test_usage_is_asked_for_on_async_streams(server: Server, aclient: AsyncOpenAI) -> None:
    """The same for asynchronous streams, and for ``.stream()``."""
    with capture(stream_usage=True) as seen:
        stream = await aclient.chat.completions.create(**ASK, stream=True)
        assert all([chunk.choices async for chunk in stream])
        async with aclient.chat.completions.stream(**ASK) as helper:
            async for _ in helper:
                pass
    assert [span.attributes[semconv.USAGE_OUTPUT_TOKENS] > 0 for span in seen.spans] == [True, True]


def test_usage_is_not_asked_for_where_the_user_could_see_it(server: Server, client: OpenAI) -> None:
    """Raw responses show bytes, and ``stream_options`` of the user's stand."""
    with capture(stream_usage=True):
        raw = client.chat.completions.with_raw_response.create(**ASK, stream=True)
        list(raw.parse())
        assert "stream_options" not in server.last.json
        with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as opened:
            list(opened.parse())
        assert "stream_options" not in server.last.json
        mine = {"include_usage": False}
        list(client.chat.completions.create(**ASK, stream=True, stream_options=mine))
        assert server.last.json["stream_options"] == mine
        list(
            client.chat.completions.create(**ASK, stream=True, extra_body={"stream_options": mine})
        )
        assert server.last.json["stream_options"] == mine
        client.chat.completions.create(**ASK)
        assert "stream_options" not in server.last.json


def test_a_server_that_refuses_is_not_asked_again(server: Server, client: OpenAI) -> None:
    """The user never sees the refusal; the next stream is not delayed by another."""
    server.script = Script(refuse_stream_options=True)
    with capture(stream_usage=True) as seen:
        for _ in range(2):
            assert list(client.chat.completions.create(**ASK, stream=True))
    assert [exchange.status for exchange in server.exchanges] == [400, 200, 200]
    assert len(seen.spans) == 2
    assert all(semconv.ERROR_TYPE not in span.attributes for span in seen.spans)


def test_a_bad_request_of_the_users_is_no_refusal(server: Server, client: OpenAI) -> None:
    """Where it fails without our asking too, the user gets that error; it is tried out once."""
    server.script = Script(status=400)
    with capture(stream_usage=True) as seen:
        for _ in range(2):
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**ASK, stream=True)
    assert len(server.exchanges) == 3
    assert [span.attributes[semconv.ERROR_TYPE] for span in seen.spans] == ["BadRequestError"] * 2


# --- trace context ------------------------------------------------------------------------------


def test_the_trace_context_goes_to_loopback(server: Server, client: OpenAI, seen: Captured) -> None:
    """A server on this machine joins the trace, as a child of the operation's span."""
    client.chat.completions.create(**ASK)
    span = seen.spans[0].context
    ids = f"00-{span.trace_id:032x}-{span.span_id:016x}-"
    assert server.last.headers["traceparent"].startswith(ids)


def sent_headers(**settings: Any) -> dict[str, str]:
    """The headers that a request to a third party carries."""
    sent: dict[str, str] = {}

    def remember(request: Any) -> Any:
        sent.update(request.headers)
        return transport.handler(request)

    http = transport.httpx.Client(transport=transport.httpx.MockTransport(remember))
    with capture(**settings), OpenAI(**transport.settings({}), http_client=http) as client:
        client.chat.completions.create(**ASK)
    return sent


def test_third_parties_get_no_trace_context_unasked() -> None:
    """Ids of traces leave the machine only for hosts that were named."""
    assert "traceparent" not in sent_headers()
    assert "traceparent" in sent_headers(propagate=["mock.invalid"])
    assert "traceparent" not in sent_headers(propagate=["other.invalid"])


@pytest.mark.skipif(openai.__version__ < "3", reason="openai stands on httpx2 since 3")
def test_with_httpx_instrumented_the_context_is_sent_once(server: Server, seen: Captured) -> None:
    """Its span is a child of ours, and the header names it: nothing is sent twice."""
    httpx = pytest.importorskip("opentelemetry.instrumentation.httpx", exc_type=ImportError)
    if not hasattr(httpx, "HTTPX2ClientInstrumentor"):
        pytest.skip("this release of the httpx instrumentation knows no httpx2")
    instrumentor = httpx.HTTPX2ClientInstrumentor()
    instrumentor.instrument(tracer_provider=seen.tracer_provider)
    try:
        with OpenAI(base_url=server.base_url, api_key="sk-test") as client:
            client.chat.completions.create(**ASK)
    finally:
        instrumentor.uninstrument()
    http, operation = seen.spans
    assert operation.name == "chat m"
    assert http.parent is not None
    assert http.parent.span_id == operation.context.span_id
    assert server.last.headers["traceparent"].split("-")[2] == f"{http.context.span_id:016x}"
    assert "," not in server.last.headers["traceparent"]


# --- surroundings -------------------------------------------------------------------------------


def test_suppressed_calls_are_not_watched(seen: Captured) -> None:
    """``suppress_instrumentation`` holds, both for users and for exporters of the SDK."""
    with transport.client() as client:
        with suppress_instrumentation():
            client.chat.completions.create(**ASK)
        token = context.attach(context.set_value("suppress_instrumentation", True))
        list(client.chat.completions.create(**ASK, stream=True))
        context.detach(token)
        assert seen.spans == []
        client.chat.completions.create(**ASK)
    assert len(seen.spans) == 1


def test_the_span_is_a_child_of_the_callers_and_nothing_stays_attached(seen: Captured) -> None:
    """While a stream is read, the current span is the consumer's own."""
    tracer = seen.tracer_provider.get_tracer("app")
    with transport.client() as client, tracer.start_as_current_span("request") as mine:
        for _ in client.chat.completions.create(**ASK, stream=True):
            assert trace.get_current_span() is mine
    chat = next(span for span in seen.spans if span.name == "chat m")
    assert chat.parent is not None
    assert chat.parent.span_id == mine.get_span_context().span_id


def test_attributes_of_the_block_are_on_spans_and_the_few_on_metrics(seen: Captured) -> None:
    """Route and tenant go on metrics; session, user and others on spans alone."""
    with transport.client() as client:
        with llmwatch.attributes(route="answer", tenant="t1", session="s1", user="u1", team="red"):
            client.chat.completions.create(**ASK)
        client.chat.completions.create(**ASK)
    inside, outside = seen.spans
    wanted = {
        "llmwatch.route": "answer", "llmwatch.tenant": "t1", "session.id": "s1", "user.id": "u1", "team": "red",
    }  # fmt: skip
    assert wanted.items() <= dict(inside.attributes).items()
    assert not wanted.keys() & outside.attributes.keys()
    points = seen.metrics()["gen_ai.client.operation.duration"]
    assert {point.attributes.get("llmwatch.route") for point in points} == {"answer", None}
    assert not any(
        "session.id" in point.attributes or "team" in point.attributes for point in points
    )


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://us-central1-aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("https://notapi.openai.com.evil.example/v1", "openai"),
        ("http://localhost:8000/v1", "openai"),
    ],
)
def test_the_provider_is_named_by_the_host(seen: Captured, url: str, provider: str) -> None:
    """Where the host is known its own name, else that of the API it speaks."""
    with transport.client(base_url=url) as client:
        client.chat.completions.create(**ASK)
    assert seen.spans[0].attributes[semconv.PROVIDER_NAME] == provider


@pytest.mark.parametrize("version", ["1.41", "genai-0.1", "dup"])
def test_the_setting_chooses_the_conventions(version: str) -> None:
    """Names of one release, of the other, or of both."""
    with capture(semconv=version) as seen, transport.client() as client:
        list(client.chat.completions.create(**ASK, stream=True))
    names = seen.metrics().keys()
    assert ("gen_ai.client.operation.duration" in names) == (version != "genai-0.1")
    assert ("gen_ai.client.inference.duration" in names) == (version != "1.41")
