"""What one chat call tells: every attribute, metric and header, checked against what was sent."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llmwatch import semconv
from llmwatch.testing import Captured, capture
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_a_plain_call_tells_what_was_asked_and_answered(seen: Captured) -> None:
    """Request parameters, the answer's identity, usage and headers are all on the span."""
    with transport.client() as client:
        answer = client.chat.completions.create(
            **ASK, temperature=0.2, max_completion_tokens=64, seed=7, stop=["END"], top_p=0.9,
            reasoning_effort="low", service_tier="flex", response_format={"type": "json_object"},
        )  # fmt: skip
    assert answer.choices[0].message.content == "hello"
    (span,) = seen.spans
    attributes = dict(span.attributes)
    assert attributes.pop(semconv.CLIENT_WAIT, 0.0) >= 0.0
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "mock.invalid",
        "server.port": 80,
        "openai.api.type": "chat_completions",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "openai.request.service_tier": "flex",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "llmwatch.response.request_id": "req_1",
        "llmwatch.rate_limit.remaining_requests": 99,
    }


def test_a_plain_call_has_no_time_to_first_chunk(seen: Captured) -> None:
    """TTFT belongs to streamed calls alone: on a whole answer it would be the duration."""
    with transport.client() as client:
        client.chat.completions.create(**ASK)
    names = seen.metrics().keys()
    assert "gen_ai.client.operation.duration" in names
    assert "gen_ai.client.operation.time_to_first_chunk" not in names
    assert not [key for key in seen.spans[0].attributes if "first" in key or "stream" in key]


@pytest.mark.parametrize("tools", [False, True])
def test_a_stream_tells_its_chunks_reason_and_usage(seen: Captured, tools: bool) -> None:
    """However briefly chunks are looked at, what they say is the same with and without tools."""
    more: dict[str, Any] = {"tools": [TOOL]} if tools else {}
    with transport.client() as client:
        stream = client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}, **more,
            extra_headers={"x-chunks": "40"},
        )  # fmt: skip
        chunks = list(stream)
    assert len(chunks) == 43
    (span,) = seen.spans
    attributes = span.attributes
    assert attributes[semconv.STREAM_CHUNKS] == 43
    assert attributes[semconv.REQUEST_STREAM] is True
    assert attributes[semconv.RESPONSE_FINISH_REASONS] == ("stop",)
    assert attributes[semconv.RESPONSE_MODEL] == "m-2026"
    assert attributes[semconv.USAGE_OUTPUT_TOKENS] == 5
    # On a busy machine the consumer may have come late for some: what they say is left out.
    late = attributes.get(semconv.STREAM_READY_CHUNKS, 0)
    if not late:
        first = attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK]
        assert 0 < first < attributes[semconv.TIME_TO_FIRST_OUTPUT]
        assert attributes[semconv.TIME_PER_OUTPUT_TOKEN] > 0
    assert attributes[semconv.STREAM_GAP_P50] <= attributes[semconv.STREAM_GAP_P95]
    (gaps,) = seen.metrics()["gen_ai.client.operation.time_per_output_chunk"]
    assert 42 - 2 * late <= gaps.count <= 42


def test_usage_of_a_stream_is_absent_unless_somebody_asks(seen: Captured) -> None:
    """No usage chunk, no usage: neither zero nor a guess."""
    with transport.client() as client:
        list(client.chat.completions.create(**ASK, stream=True))
    assert not [key for key in seen.spans[0].attributes if "usage" in key or "token" in key]


def test_an_estimate_is_made_only_when_asked_for_and_says_so() -> None:
    """``estimate_usage`` counts chunks with output as tokens, and labels them."""
    with capture(estimate_usage=True) as seen, transport.client() as client:
        list(client.chat.completions.create(**ASK, stream=True))
    attributes = seen.spans[0].attributes
    assert attributes[semconv.USAGE_OUTPUT_TOKENS] == 6
    assert attributes[semconv.STREAM_CHUNKS] == 8  # the role and the finish reason are no output
    assert attributes[semconv.USAGE_ESTIMATED] is True


def test_tools_offered_and_called_are_named(seen: Captured) -> None:
    """Names only, never arguments."""
    with transport.client() as client:
        client.chat.completions.create(**ASK, tools=[TOOL], tool_choice="auto", n=2)
    attributes = seen.spans[0].attributes
    assert attributes[semconv.TOOLS_OFFERED] == ("look",)
    assert attributes[semconv.TOOL_CHOICE] == "auto"
    assert attributes[semconv.TOOLS_CALLED] == ("look", "look")
    assert attributes[semconv.RESPONSE_FINISH_REASONS] == ("tool_calls", "tool_calls")
    assert attributes[semconv.REQUEST_CHOICE_COUNT] == 2


@pytest.mark.parametrize("raw", ["with_raw_response", "with_streaming_response"])
@pytest.mark.parametrize("parsed", [True, False])
def test_raw_responses_tell_the_same(seen: Captured, raw: str, parsed: bool) -> None:
    """The user sees headers and the same parsed object as ever; the span has usage."""
    with transport.client() as client:
        opened = getattr(client.chat.completions, raw).create(**ASK)
        if raw == "with_raw_response":
            assert opened.headers["x-request-id"] == "req_1"
            if parsed:
                assert opened.parse() is opened.parse()
        else:
            with opened as response:
                assert response.headers["x-request-id"] == "req_1"
                usage = response.parse().usage if parsed else response.json()["usage"]
                assert usage
    (span,) = seen.spans
    assert span.attributes[semconv.USAGE_INPUT_TOKENS] == 9
    assert span.attributes[semconv.RESPONSE_FINISH_REASONS] == ("stop",)


@pytest.mark.parametrize(
    "encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]
)
@pytest.mark.parametrize("raw", [False, True])
def test_embeddings_are_counted_and_not_touched(
    seen: Captured, encoding: dict[str, Any], raw: bool
) -> None:
    """Count, dimension and usage; the vectors pass through."""
    with transport.client() as client:
        embeddings = client.embeddings.with_raw_response if raw else client.embeddings
        answer = embeddings.create(model="m", input=["a", "b", "c"], **encoding)
        parsed = answer.parse() if raw else answer
    assert len(parsed.data) == 3
    attributes = seen.spans[0].attributes
    assert attributes[semconv.USAGE_INPUT_TOKENS] == 4
    assert attributes[semconv.INPUT_COUNT] == 3
    assert semconv.USAGE_OUTPUT_TOKENS not in attributes
    if not raw:
        assert attributes[semconv.OUTPUT_COUNT] == 3
        if encoding.get("encoding_format") != "base64":
            assert attributes[semconv.EMBEDDINGS_DIMENSION_COUNT] == 8


def test_responses_tell_status_usage_and_conversation(seen: Captured) -> None:
    """The Responses API spells things its own way; the span does not."""
    with transport.client() as client:
        client.responses.create(
            model="m", input="hi", max_output_tokens=9, previous_response_id="resp_0",
            reasoning={"effort": "high"}, text={"format": {"type": "text"}}, conversation="conv_1",
        )  # fmt: skip
        list(client.responses.create(model="m", input="hi", stream=True))
    plain, streamed = seen.spans
    for span in (plain, streamed):
        assert span.attributes[semconv.USAGE_INPUT_TOKENS] == 9
        assert span.attributes[semconv.USAGE_CACHE_READ_INPUT_TOKENS] == 3
        assert span.attributes[semconv.USAGE_CACHE_CREATION_INPUT_TOKENS] == 0
        assert span.attributes[semconv.RESPONSE_FINISH_REASONS] == ("stop",)
        assert span.attributes[semconv.RESPONSE_ID] == "resp_1"
        assert span.attributes[semconv.OPENAI_API_TYPE] == "responses"
    assert plain.attributes[semconv.REQUEST_MAX_TOKENS] == 9
    assert plain.attributes[semconv.REQUEST_REASONING_LEVEL] == "high"
    assert plain.attributes[semconv.REQUEST_PREVIOUS_RESPONSE_ID] == "resp_0"
    assert plain.attributes[semconv.CONVERSATION_ID] == "conv_1"
    assert plain.attributes[semconv.OUTPUT_TYPE] == "text"
    # Events that carry no output by their kind are no chunks.
    assert streamed.attributes[semconv.STREAM_CHUNKS] == 6


def test_messages_may_be_a_one_shot_iterator(seen: Captured) -> None:
    """The client reads it once; we read nothing."""
    with transport.client() as client:
        client.chat.completions.create(model="m", messages=iter(ASK["messages"]))
    assert len(seen.spans) == 1


def test_the_module_level_client_is_watched(
    seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``openai.chat.completions.create`` is as good as any client."""
    monkeypatch.setattr(openai, "api_key", "sk-secret")
    monkeypatch.setattr(openai, "base_url", "http://mock.invalid/v1")
    monkeypatch.setattr(openai, "http_client", transport.client()._client)
    monkeypatch.setattr(openai, "_client", None)
    openai.chat.completions.create(**ASK)
    assert len(seen.spans) == 1


def test_azure_clients_are_watched(seen: Captured) -> None:
    """Azure puts the deployment in the path; the operation is the same, the provider its own."""
    http = transport.client()._client
    client = openai.AzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com", api_version="2024-06-01", api_key="sk-secret",
        http_client=http,
    )  # fmt: skip
    client.chat.completions.create(**ASK)
    (span,) = seen.spans
    assert span.attributes[semconv.PROVIDER_NAME] == "azure.ai.openai"
    assert span.attributes[semconv.SERVER_ADDRESS] == "mine.openai.azure.com"
    assert span.attributes[semconv.REQUEST_MODEL] == "m"


async def test_async_calls_tell_the_same(seen: Captured) -> None:
    """One mechanism serves both kinds of client."""
    async with transport.aclient() as client:
        await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(**ASK, stream=True)
        assert len([chunk async for chunk in stream]) == 8
        await client.embeddings.create(model="m", input="a")
    assert [span.name for span in seen.spans] == ["chat m", "chat m", "embeddings m"]
    assert seen.spans[0].attributes[semconv.USAGE_OUTPUT_TOKENS] == 5
    assert seen.spans[1].attributes[semconv.STREAM_CHUNKS] == 8


@pytest.mark.parametrize("stream", [False, True])
def test_no_secret_reaches_any_signal(stream: bool) -> None:
    """The API key and every header of the request stay out, even with content captured."""
    with capture(capture_content=True, operation_events=True) as seen, transport.client() as client:
        more: dict[str, Any] = {"stream": True} if stream else {}
        answer = client.chat.completions.create(
            **ASK, **more, extra_headers={"authorization": "Bearer sk-other", "x-mine": "sk-third"}
        )
        if stream:
            list(answer)
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(**ASK, extra_headers={"x-status": "401"})
        text = " ".join(
            [span.to_json() for span in seen.spans]
            + [f"{event} {dict(event.attributes or {})} {event.body}" for event in seen.events]
            + [
                json.dumps([str(point.attributes) for point in points])
                for points in seen.metrics().values()
            ]
        )
    assert "sk-" not in text
    assert "hi" in text
