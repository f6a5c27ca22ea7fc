"""The demo server is an OpenAI API to the real client, and tells the truth about its timing."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter, perf_counter_ns, time_ns
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream, AzureOpenAI, OpenAI, Stream
from pydantic import BaseModel

from llmwatch.demo.script import Script
from llmwatch.demo.server import Server

MESSAGES = [{"role": "user", "content": "Describe a harbour at dusk."}]
WEATHER = {
    "name": "weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CHAT_TOOLS = [{"type": "function", "function": WEATHER}]
TOOLS = [{"type": "function", **WEATHER}]
THINK = Script(reasoning=4).headers


def audio() -> io.BytesIO:
    file = io.BytesIO(b"RIFF0000WAVE")
    file.name = "harbour.wav"
    return file


def picture() -> io.BytesIO:
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.name = "harbour.png"
    return file


class Forecast(BaseModel):
    city: str
    days: int


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **more)


def respond(client: Any, **more: Any) -> Any:
    return client.responses.create(model="gpt-5-mini", input="A harbour at dusk.", **more)


def run(client: Any, **more: Any) -> Any:
    return client.beta.threads.runs.create("thread_1", assistant_id="asst_1", **more)


CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": chat,
    "chat of three choices": lambda c: chat(c, n=3),
    "chat that reasons": lambda c: chat(c, extra_headers=THINK),
    "chat that calls a tool": lambda c: chat(c, tools=CHAT_TOOLS, tool_choice="required"),
    "chat parsed": lambda c: c.chat.completions.parse(
        model="gpt-4o-mini", messages=MESSAGES, response_format=Forecast
    ),
    "chat streamed": lambda c: chat(c, stream=True),
    "chat streamed with usage": lambda c: chat(
        c, stream=True, stream_options={"include_usage": True}
    ),
    "chat streamed, two choices": lambda c: chat(c, stream=True, n=2),
    "chat streamed, reasons": lambda c: chat(c, stream=True, extra_headers=THINK),
    "chat streamed, calls a tool": lambda c: chat(
        c, stream=True, tools=CHAT_TOOLS, tool_choice="required"
    ),
    "completion": lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Dusk"),
    "completion streamed": lambda c: c.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Dusk", stream=True
    ),
    "response": respond,
    "response that reasons": lambda c: respond(c, extra_headers=THINK),
    "response that calls a tool": lambda c: respond(c, tools=TOOLS, tool_choice="required"),
    "response parsed": lambda c: c.responses.parse(
        model="gpt-5-mini", input="A harbour", text_format=Forecast
    ),
    "response in the background": lambda c: respond(c, background=True),
    "response streamed": lambda c: respond(c, stream=True),
    "response streamed, reasons": lambda c: respond(c, stream=True, extra_headers=THINK),
    "response streamed, calls a tool": lambda c: respond(
        c, stream=True, tools=TOOLS, tool_choice="required"
    ),
    "response streamed, breaks": lambda c: respond(
        c, stream=True, extra_headers=Script(fault="error", fault_after=6).headers
    ),
    "response streamed, too long": lambda c: respond(
        c, stream=True, extra_headers=Script(finish_reason="length").headers
    ),
    "compaction": lambda c: c.responses.compact(model="gpt-5-mini", input="A harbour"),
    "input tokens": lambda c: c.responses.input_tokens.count(model="gpt-5-mini", input="Dusk"),
    "beta response": lambda c: c.beta.responses.create(model="gpt-5-mini", input="A harbour"),
    "beta response streamed": lambda c: c.beta.responses.create(
        model="gpt-5-mini", input="A harbour", stream=True, extra_headers=THINK
    ),
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
    "embeddings as numbers": lambda c: c.embeddings.create(
        model="text-embedding-3-small", input="a", encoding_format="float", dimensions=64
    ),
    "moderation": lambda c: c.moderations.create(input=["a lamp", "a bomb"]),
    "decisions": lambda c: c.decisions.create(
        model="gpt-6-luna",
        input="The ferry is late.",
        questions=[
            {"type": "predicate", "instructions": "Is it late?"},
            {
                "type": "choice",
                "instructions": "Which?",
                "choices": [{"value": "a"}, {"value": "b"}],
            },
            {"type": "score", "instructions": "How?", "levels": [{"label": "a"}, {"label": "b"}]},
        ],
    ),
    "models": lambda c: c.models.list(),
    "model": lambda c: c.models.retrieve("gpt-4o"),
    "image": lambda c: c.images.generate(model="gpt-image-1", prompt="A harbour", n=2),
    "image by link": lambda c: c.images.generate(model="dall-e-3", prompt="A harbour"),
    "image edited": lambda c: c.images.edit(model="gpt-image-1", image=picture(), prompt="Dusk"),
    "image varied": lambda c: c.images.create_variation(image=picture()),
    "image streamed": lambda c: c.images.generate(
        model="gpt-image-1", prompt="A harbour", stream=True, partial_images=2
    ),
    "image edited, streamed": lambda c: c.images.edit(
        model="gpt-image-1", image=picture(), prompt="Dusk", stream=True, partial_images=1
    ),
    "speech": lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="Dusk"),
    "transcription": lambda c: c.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=audio()
    ),
    "transcription, long form": lambda c: c.audio.transcriptions.create(
        model="whisper-1", file=audio(), response_format="verbose_json"
    ),
    "transcription, subtitles": lambda c: c.audio.transcriptions.create(
        model="whisper-1", file=audio(), response_format="srt"
    ),
    "transcription, speakers": lambda c: c.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=audio(), response_format="diarized_json"
    ),
    "transcription streamed": lambda c: c.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=audio(), stream=True
    ),
    "translation": lambda c: c.audio.translations.create(model="whisper-1", file=audio()),
    "video": lambda c: c.videos.create(prompt="A harbour", seconds="4"),
    "video to its end": lambda c: c.videos.create_and_poll(prompt="A harbour"),
    "video remixed": lambda c: c.videos.remix("video_1", prompt="At dusk"),
    "video extended": lambda c: c.videos.extend(prompt="On", seconds="4", video=picture()),
    "video edited": lambda c: c.videos.edit(prompt="Darker", video=picture()),
    "video content": lambda c: c.videos.download_content("video_1"),
    "character": lambda c: c.videos.create_character(name="Sailor", video=picture()),
    "assistant": lambda c: c.beta.assistants.create(model="gpt-4o"),
    "thread": lambda c: c.beta.threads.create(),
    "message": lambda c: c.beta.threads.messages.create("thread_1", role="user", content="Hi"),
    "run": run,
    "run to its end": lambda c: c.beta.threads.runs.create_and_poll(
        thread_id="thread_1", assistant_id="asst_1"
    ),
    "run that wants a tool": lambda c: run(
        c, tools=CHAT_TOOLS, stream=True, extra_headers=Script(tool_calls=1).headers
    ),
    "run streamed": lambda c: run(c, stream=True),
    "run of a new thread": lambda c: c.beta.threads.create_and_run(assistant_id="asst_1"),
    "run of a new thread, streamed": lambda c: c.beta.threads.create_and_run(
        assistant_id="asst_1", stream=True
    ),
}
"""Every endpoint, by a call of the sync or of the async client."""

NOT_AS_DECLARED = {
    "completion streamed",  # `finish_reason` is null until the end
    "embeddings",  # base64, decoded by the client only after validation
}
"""Where the API itself, and so the server, does not send what the client's types say."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # videos and assistants
@pytest.mark.parametrize("name", CALLS)
def test_the_strict_client_accepts_every_answer(server: Server, name: str) -> None:
    """What the server sends has exactly the types that the installed client declares."""
    with OpenAI(
        base_url=server.base_url,
        api_key="sk-test",
        max_retries=0,
        _strict_response_validation=name not in NOT_AS_DECLARED,
    ) as client:
        result = CALLS[name](client)
        if isinstance(result, Stream):
            assert list(result)
    assert server.last.wait().status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CALLS)
async def test_the_strict_async_client_accepts_every_answer(server: Server, name: str) -> None:
    """The async client sees the same API."""
    async with AsyncOpenAI(
        base_url=server.base_url,
        api_key="sk-test",
        max_retries=0,
        _strict_response_validation=name not in NOT_AS_DECLARED,
    ) as client:
        result = CALLS[name](client)
        if hasattr(result, "__await__"):
            result = await result
        if isinstance(result, AsyncStream):
            assert [each async for each in result]
    assert server.last.wait().status == 200


# --- content -----------------------------------------------------------------------------------


def test_the_final_usage_chunk_comes_only_where_it_was_asked_for(
    server: Server, client: OpenAI
) -> None:
    """Without ``include_usage`` no chunk has usage; with it exactly the last, without choices."""
    plain = list(chat(client, stream=True))
    asked = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)
    assert [bool(chunk.usage) for chunk in asked] == [False] * (len(asked) - 1) + [True]
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.completion_tokens == server.script.chunks


def test_the_stream_says_what_the_plain_answer_says(client: OpenAI) -> None:
    """Text, tool calls and token counts do not depend on streaming."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(chat(client, **options))
    whole = chat(client)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_the_helpers_of_the_client_put_the_stream_together(client: OpenAI) -> None:
    """``.stream()`` of chat and of responses ends with a parsed object."""
    with client.chat.completions.stream(
        model="gpt-4o-mini", messages=MESSAGES, response_format=Forecast
    ) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.parsed == Forecast(
            city="harbour", days=7
        )
    with client.responses.stream(
        model="gpt-5-mini", input="A harbour", text_format=Forecast
    ) as events:
        events.until_done()
        assert events.get_final_response().output_parsed == Forecast(city="harbour", days=7)


def test_called_tools_get_arguments_of_their_schema(client: OpenAI) -> None:
    """A forced tool call names the tool, and its arguments are an instance of its schema."""
    message = chat(client, tools=CHAT_TOOLS, tool_choice="required").choices[0].message
    assert Forecast.model_validate_json(message.tool_calls[0].function.arguments)
    chunks = list(chat(client, tools=CHAT_TOOLS, tool_choice="required", stream=True))
    calls = [c.choices[0].delta.tool_calls for c in chunks if c.choices[0].delta.tool_calls]
    assert "".join(c[0].function.arguments for c in calls) == '{"city": "harbour", "days": 7}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_background_response_completes_after_it_was_fetched(client: OpenAI) -> None:
    """queued → in_progress → completed; its stream can be joined later, from any event on."""
    response = respond(client, background=True)
    seen = [response.status]
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)
        seen.append(response.status)
    assert seen == ["queued", "in_progress", "completed"]
    assert response.output_text
    late = client.responses.retrieve(response.id, stream=True, starting_after=5)
    assert next(event.sequence_number for event in late) == 6


def test_vectors_are_the_same_in_both_encodings(client: OpenAI) -> None:
    """1536 numbers of length 1, whether sent as base64 or as JSON."""
    one, other = (
        client.embeddings.create(model="text-embedding-3-small", input="dusk", **more)
        for more in ({}, {"encoding_format": "float"})
    )
    assert one.data[0].embedding == pytest.approx(other.data[0].embedding, abs=1e-6)
    assert len(one.data[0].embedding) == 1536
    assert sum(x * x for x in one.data[0].embedding) == pytest.approx(1.0, abs=1e-5)


def test_azure_paths_are_answered(server: Server) -> None:
    """The model comes from the path, and a first chunk without choices is sent, as Azure does."""
    with AzureOpenAI(
        azure_endpoint=server.base_url.removesuffix("/v1"), api_key="key", api_version="2025-03-01"
    ) as client:
        chunks = list(chat(client, stream=True))
    assert server.last.path == "/openai/deployments/gpt-4o-mini/chat/completions"
    assert chunks[0].choices == []
    assert chunks[1].model.startswith("gpt-4o-mini")


def test_the_raw_speech_stream_has_all_its_parts(client: OpenAI) -> None:
    """Binary answers are streamed too; and as events where asked."""
    ask = client.audio.speech.with_streaming_response.create
    with ask(model="tts-1", voice="alloy", input="Dusk") as response:
        assert len(b"".join(response.iter_bytes())) == 12 * 1024
    with ask(model="tts-1", voice="alloy", input="Dusk", stream_format="sse") as response:
        events = [line for line in response.iter_lines() if line]
    assert json.loads(events[-1].removeprefix("data: "))["type"] == "speech.audio.done"


def test_requests_are_recorded_with_headers_and_body(server: Server, client: OpenAI) -> None:
    """The record holds what was sent, and the id that the client was told."""
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_headers={"traceparent": "00-1-2-01"}
    )
    assert server.last.headers["authorization"] == "Bearer sk-test"
    assert server.last.headers["traceparent"] == "00-1-2-01"
    assert server.last.json["messages"] == MESSAGES
    assert raw.headers["x-request-id"] == server.last.request_id
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"


# --- timing ------------------------------------------------------------------------------------


def arrivals(server: Server, script: Script) -> list[float]:
    """When the kernel put each segment of a streamed answer before the reader, as perf_counter."""
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": []})
    headers = [f"{name}: {value}" for name, value in script.headers.items()]
    headers += ["host: here", "connection: close", f"content-length: {len(body)}"]
    request = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *headers, "", body])
    found = []
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.sendall(request.encode())
        offset = max(time_ns() - perf_counter_ns() for _ in range(50))  # undisturbed once
        while True:
            data, control, _, _ = sock.recvmsg(65536, 256)
            if not data:
                return found
            for _, _, stamp in control:
                seconds, nanoseconds = struct.unpack("qq", stamp[:16])
                found.append((seconds * 10**9 + nanoseconds - offset) / 1e9)


SO_TIMESTAMPNS = 35


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a segment came")
def test_stamps_are_true_by_the_kernels_clock(server: Server) -> None:
    """What reached the client's socket did so inside a write, as its stamps enclose it.

    The kernel's own time of arrival is the witness: no thread has to wake up for it, so that it
    holds on a busy machine too. Both clocks are read a moment apart: allow 0.2 ms.
    """
    arrived = arrivals(server, Script(delay=0.02, delays=(0.03, 0.01), chunks=40))
    writes = server.last.wait().writes
    texts = writes[1:-2]  # before them the headers, after them the end: not in the record
    inside = [at for at in arrived if texts[0].start - 0.001 < at < texts[-1].end]
    assert len(inside) > 10  # a reader that is late gets several segments as one
    for at in inside:
        assert any(write.start - 0.0002 < at < write.end + 0.0002 for write in texts)


def test_delays_are_kept(server: Server, client: OpenAI) -> None:
    """Headers wait for `delay`, output for `delays`; what frames the output does not wait."""
    script = Script(delay=0.02, delays=(0.05, 0.01), chunks=20)
    asked = perf_counter()
    seen = [perf_counter() for _ in chat(client, stream=True, extra_headers=script.headers)]
    exchange = server.last.wait()
    assert exchange.headers_sent is not None
    role, *texts, reason, done = (write.start for write in exchange.writes)
    assert asked < exchange.received <= exchange.headers_sent - 0.02
    assert texts[0] - role >= 0.05
    assert all(after - before >= 0.0099 for before, after in pairwise(texts))
    assert len(texts) == 20
    assert exchange.ending == "complete"
    assert all(
        client > written for client, written in zip(seen, [role, *texts, reason], strict=True)
    )
    assert done > reason > texts[-1]


def test_a_burst_is_one_write(server: Server, client: OpenAI) -> None:
    """Several events go out in one network write, and all of them arrive."""
    chunks = list(chat(client, stream=True, extra_headers=Script(burst=5).headers))
    assert [write.events for write in server.last.wait().writes] == [5, 5, 5]
    assert len(chunks) == 14


def test_a_huge_stream_waits_for_its_reader(server: Server, client: OpenAI) -> None:
    """16 MB in 400 chunks arrive whole; a reader that stops, stops the server."""
    server.script = Script(text=("x" * 40_000 + " ") * 400)
    stream = chat(client, stream=True)
    next(stream)
    assert not server.last._done.wait(0.3)  # what the kernel holds is far less
    assert sum(len(c.choices[0].delta.content or "") for c in stream) == 40_001 * 400
    assert server.last.wait().ending == "complete"


async def test_many_streams_at_once_keep_their_scripts(
    server: Server, aclient: AsyncOpenAI
) -> None:
    """Scripts in headers reach their own requests, however many run."""

    async def count(chunks: int) -> int:
        script = Script(chunks=chunks, delays=(0.005,))
        return len(
            [c async for c in await chat(aclient, stream=True, extra_headers=script.headers)]
        )

    counts = await asyncio.gather(*(count(number) for number in range(1, 33)))
    assert counts == [number + 2 for number in range(1, 33)]


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_a_status_is_the_clients_exception(
    server: Server, client: OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """Each status raises its own class, with the request id."""
    server.enqueue(Script(status=status))
    with pytest.raises(error) as raised:
        chat(client)
    assert raised.value.request_id == server.last.request_id


def test_scripts_are_used_once_each_in_turn(server: Server, client: OpenAI) -> None:
    """429 with retry-after, 500, then success: the client retries on its own and is answered."""
    server.enqueue(Script(status=429, retry_after=0.05), Script(status=500, retry_after=0.01))
    assert chat(client.with_options(max_retries=2)).choices
    first, second, third = server.exchanges
    assert [first.status, second.status, third.status] == [429, 500, 200]
    assert first.finished is not None
    assert second.received - first.finished >= 0.05


def test_stream_options_can_be_refused(server: Server, client: OpenAI) -> None:
    """A server that does not know ``stream_options`` says 400, and answers without."""
    server.script = Script(refuse_stream_options=True)
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        chat(client, stream=True, stream_options={"include_usage": True})
    assert list(chat(client, stream=True))


def test_usage_can_be_absent(client: OpenAI) -> None:
    """Absent means absent, even if it was asked for."""
    headers = Script(usage=False).headers
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert chat(client, extra_headers=headers).usage is None
    assert all(c.usage is None for c in chat(client, **asked, extra_headers=headers))
    assert respond(client, extra_headers=headers).usage is None


@pytest.mark.parametrize("after", [None, 0, 3])
def test_a_dropped_connection_is_a_connection_error(
    server: Server, client: OpenAI, after: int | None
) -> None:
    """Before the headers, before the first chunk, or after some: those arrive, then it breaks."""
    server.enqueue(Script(fault="drop", fault_after=after))
    seen = []
    with pytest.raises(openai.APIConnectionError):
        seen.extend(chat(client, stream=True))
    with pytest.raises(openai.APIConnectionError):
        chat(client, extra_headers=Script(fault="drop", fault_after=after).headers)
    assert all(each.wait().ending == "dropped" for each in server.exchanges)
    assert sum(write.events for write in server.exchanges[0].writes) == (after or 0)


def test_an_error_event_breaks_the_stream(server: Server, client: OpenAI) -> None:
    """The chunks before it arrive; then the client raises what the server said."""
    server.enqueue(Script(fault="error", fault_after=3))
    stream = chat(client, stream=True)
    assert [next(stream).choices[0].index for _ in range(3)] == [0, 0, 0]
    with pytest.raises(openai.APIError, match="server had an error"):
        next(stream)
    assert len(server.last.wait().writes) == 4


@pytest.mark.parametrize("after", [None, 2])
def test_a_hanging_server_notices_that_the_client_left(
    server: Server, client: OpenAI, after: int | None
) -> None:
    """Silence lasts until the client's timeout closes the connection."""
    server.enqueue(Script(fault="hang", fault_after=after))
    with pytest.raises(openai.APITimeoutError):
        list(chat(client, stream=True, timeout=0.1))
    assert server.last.wait().ending == "client left"


# --- start and stop ----------------------------------------------------------------------------


def test_nothing_stays_after_the_block() -> None:
    """The thread is gone and the port is free, also while a client hangs in a request."""
    threads = set(threading.enumerate())
    with (
        Server(Script(fault="hang")) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: here\r\n\r\n")
        while not server.exchanges:
            pass
    assert set(threading.enumerate()) <= threads
    with Server(port=server.port):  # free again
        pass
    gc.collect()  # an unclosed socket or loop would warn, and fail this test


def test_a_taken_port_is_told_to_the_caller() -> None:
    """The error of the operating system, not a hang."""
    with Server() as server, pytest.raises(OSError, match=str(server.port)):  # noqa: SIM117
        with Server(port=server.port):
            pass


def test_a_script_survives_its_header() -> None:
    """What goes in a header comes out equal."""
    script = Script(delays=(0.1, 0.2), chunks=3, fault="drop", fault_after=0)
    assert Script.of(script.headers) == script
    assert Script.of(Script().headers) == Script()
    assert Script.of({}) is None


def test_a_chunked_request_is_read_whole(server: Server) -> None:
    """A body sent in pieces of unknown number is the same body."""
    body = json.dumps({"model": "gpt-4o", "messages": MESSAGES}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head)
        for byte in body:
            sock.sendall(b"1\r\n%c\r\n" % byte)
        sock.sendall(b"0\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
    assert server.last.wait().body == body


def test_an_unknown_path_is_not_found(client: OpenAI) -> None:
    """As the API says it."""
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.get("/nowhere", cast_to=object)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"{", {}), (b"[]", {}), (b"{}", {"x-llmwatch-script": '{"delai": 1}'})],
)
def test_nonsense_is_a_bad_request(
    server: Server, client: OpenAI, body: bytes, headers: dict[str, str]
) -> None:
    """A body or a script that cannot be read is answered with 400, and the server goes on."""
    with pytest.raises(openai.BadRequestError, match="Cannot read"):
        client.post(
            "/embeddings",
            cast_to=object,
            content=body,
            options={"headers": {"content-type": "application/json", **headers}},
        )
    assert chat(client).choices


@pytest.mark.parametrize(
    "garbled",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\ncontent-length: some\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\ncontent-length: -4\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", b"GET /v1/models HTTP/1.1\r\nhost: here\r\n\r\n"])
def test_what_is_no_http_is_refused(
    server: Server, caplog: pytest.LogCaptureFixture, garbled: bytes, before: bytes
) -> None:
    """400 and the end of that connection, also behind a good request; nothing is logged."""
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(before + garbled)
        answers = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == bool(before)
    assert answers.count(b"HTTP/1.1 400 Bad Request") == 1
    assert answers.rstrip().endswith(b"content-length: 0")
    gc.collect()
    assert caplog.records == []
