"""What requests and answers say arrives in the conventions' schema, whole and without bytes."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types import Completion, ImagesResponse
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
)
from openai.types.beta.threads import Run
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.image_gen_completed_event import ImageGenCompletedEvent
from openai.types.responses import Response, ResponseStreamEvent

from llmwatch import semconv
from llmwatch.config import Config
from llmwatch.signals.content import Content
from llmwatch.sources.openai import content
from llmwatch.sources.openai.routes import ROUTES, find

BYTES = b"\x89PNG" + bytes(range(256)) * 8
ENCODED = base64.b64encode(BYTES).decode()
DATA_URL = f"data:image/png;base64,{ENCODED}"
SIZE = len(BYTES)

CHAT = find("post", "/chat/completions")
RESPONSES = find("post", "/responses")
EMBEDDINGS = find("post", "/embeddings")

REQUIRED = {
    "text": ("content",),
    "reasoning": ("content",),
    "tool_call": ("name",),
    "tool_call_response": ("response",),
    "server_tool_call": ("name", "server_tool_call"),
    "server_tool_call_response": ("server_tool_call_response",),
    "uri": ("modality", "uri"),
    "file": ("modality", "file_id"),
    "blob": ("modality",),
}
"""Fields that the conventions require of a part; blobs have a size instead of their bytes."""


def checked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, if they follow the schema and hold no bytes."""
    assert ENCODED[100:200] not in json.dumps(messages)
    for message in messages:
        assert isinstance(message["role"], str)
        for part in message["parts"]:
            assert isinstance(part["type"], str)
            assert all(field in part for field in REQUIRED.get(part["type"], ())), part
            if part["type"] in ("text", "reasoning"):
                assert isinstance(part["content"], str)
            if part["type"] == "blob":
                assert "content" not in part
    return messages


def said(path: str, **body: Any) -> list[dict[str, Any]]:
    return checked(content.input_messages(find("post", path), body))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "content": value}


def message(role: str, *parts: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts), **more}


def user(*parts: Any) -> dict[str, Any]:
    return message("user", *parts)


def assistant(*parts: Any, finish_reason: str = "stop") -> dict[str, Any]:
    return message("assistant", *parts, finish_reason=finish_reason)


# --- chat ----------------------------------------------------------------------------------------


def test_messages_of_a_chat_keep_their_roles_and_order() -> None:
    assert said(
        "/chat/completions",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Really."}]},
            {"role": "user", "content": "What rains?", "name": "ann"},
            {"role": "assistant", "content": None, "reasoning_content": "Hm."},
        ],
    ) == [
        message("system", text("Be brief.")),
        message("developer", text("Really.")),
        message("user", text("What rains?"), name="ann"),
        message("assistant", {"type": "reasoning", "content": "Hm."}),
    ]


def test_pictures_sound_and_files_become_references_or_sizes() -> None:
    (found,) = said(
        "/chat/completions",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
                    {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "wav"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    {"type": "file", "file": {"file_data": DATA_URL, "filename": "a.png"}},
                    {"type": "file", "file": {"file_data": ENCODED, "filename": "a.bin"}},
                    {"type": "something_new", "payload": ENCODED},
                ],
            }
        ],
    )
    assert found["parts"] == [
        text("Look:"),
        {"type": "uri", "modality": "image", "uri": "https://x.test/a.png"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "size": SIZE},
        {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "size": SIZE},
        {"type": "file", "modality": "document", "file_id": "file-1"},
        {
            "type": "blob",
            "modality": "document",
            "mime_type": "image/png",
            "size": SIZE,
            "name": "a.png",
        },
        {"type": "blob", "modality": "document", "size": SIZE, "name": "a.bin"},
        {"type": "something_new"},
    ]


@pytest.mark.parametrize("size", range(1, 8))
def test_the_size_of_a_blob_is_that_of_its_bytes(size) -> None:
    encoded = base64.b64encode(b"x" * size).decode()
    (found,) = said(
        "/chat/completions",
        messages=[
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": encoded}}]}
        ],
    )
    assert found["parts"][0]["size"] == size


TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "rain", "arguments": '{"in": "Paris"}'},
}


def test_calls_and_their_outcomes_are_structured() -> None:
    found = said(
        "/chat/completions",
        messages=[
            {
                "role": "assistant",
                "content": "",
                "refusal": "No.",
                "tool_calls": [
                    TOOL_CALL,
                    {
                        "id": "call_2",
                        "type": "custom",
                        "custom": {"name": "code", "input": "1 + 1"},
                    },
                    {
                        "id": "call_3",
                        "type": "function",
                        "function": {"name": "x", "arguments": "{broken"},
                    },
                ],
                "function_call": {"name": "old", "arguments": "[1]"},
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rainy, 57°F"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "2"}]},
            {"role": "function", "name": "old", "content": "done"},
        ],
    )
    assert found[0]["parts"] == [
        text(""),
        {"type": "refusal", "content": "No."},
        {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}},
        {"type": "tool_call", "id": "call_2", "name": "code", "arguments": "1 + 1"},
        {"type": "tool_call", "id": "call_3", "name": "x", "arguments": "{broken"},
        {"type": "tool_call", "name": "old", "arguments": [1]},
    ]
    assert [each["parts"][0] for each in found[1:]] == [
        {"type": "tool_call_response", "id": "call_1", "response": "rainy, 57°F"},
        {"type": "tool_call_response", "id": "call_2", "response": [text("2")]},
        {"type": "tool_call_response", "id": "old", "response": "done"},
    ]
    assert found[3]["name"] == "old"


def test_objects_of_the_client_are_read_like_json() -> None:
    answer = ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": "Hi", "tool_calls": [TOOL_CALL]}
    )
    plain = answer.model_dump()
    assert said("/chat/completions", messages=[answer]) == said(
        "/chat/completions", messages=[plain]
    )


def test_an_iterator_is_not_used_up() -> None:
    messages = iter([{"role": "user", "content": "x"}])
    assert said("/chat/completions", messages=messages) == []
    assert next(messages) == {"role": "user", "content": "x"}


COMPLETION = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "gpt-4o",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Rain."}},
        {
            "index": 1,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        },
        {
            "index": 2,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": None,
                "audio": {"id": "a", "data": ENCODED, "expires_at": 1, "transcript": "Spoken."},
            },
        },
    ],
}


@pytest.mark.parametrize("answer", [COMPLETION, ChatCompletion.model_validate(COMPLETION)])
def test_each_choice_is_one_message(answer) -> None:
    assert checked(content.output_messages(CHAT, answer)) == [
        assistant(text("Rain.")),
        assistant(
            {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}},
            finish_reason="tool_calls",
        ),
        assistant(text("Spoken."), {"type": "blob", "modality": "audio", "size": SIZE}),
    ]


def chunk(*choices: Any, **more: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk.construct(
        id="chatcmpl-1",
        created=1,
        model="m",
        object="chat.completion.chunk",
        choices=list(choices),
        **more,
    )


def delta(index: int = 0, /, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


CHUNKS = [
    chunk(delta(role="assistant", content="")),
    chunk(delta(reasoning_content="Let me ")),
    chunk(delta(reasoning_content="think.")),
    chunk(delta(content="It ")),
    chunk(delta(1, role="assistant", content="Two")),
    chunk(delta(content="rains.")),
    chunk(
        delta(
            tool_calls=[{"index": 0, "id": "call_1", "function": {"name": "rain", "arguments": ""}}]
        )
    ),
    chunk(
        delta(
            tool_calls=[{"index": 1, "id": "call_2", "function": {"name": "sun", "arguments": ""}}]
        )
    ),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"in": '}}])),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '"Paris"}'}}])),
    chunk(delta(refusal="No.")),
    chunk(delta(finish_reason="tool_calls")),
    chunk(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
]


@pytest.mark.parametrize("convert", [lambda each: each, lambda each: each.to_dict()])
def test_a_streamed_chat_is_put_together(convert) -> None:
    output = content.collector(CHAT)
    for each in CHUNKS:
        output.add(convert(each))
    assert checked(output.messages()) == [
        assistant(
            {"type": "reasoning", "content": "Let me think."},
            text("It rains."),
            {"type": "refusal", "content": "No."},
            {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}},
            {"type": "tool_call", "id": "call_2", "name": "sun", "arguments": ""},
            finish_reason="tool_calls",
        ),
        assistant(text("Two"), finish_reason="error"),
    ]


def test_streamed_sound_is_counted_not_kept() -> None:
    output = content.collector(CHAT)
    for start in range(0, len(ENCODED), 400):
        output.add(chunk(delta(audio={"data": ENCODED[start : start + 400]})))
    output.add(chunk(delta(audio={"transcript": "Spoken."})))
    (found,) = checked(output.messages())
    assert found["parts"][0] == text("Spoken.")
    assert abs(found["parts"][1]["size"] - SIZE) <= 2


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5)), max_size=30))
def test_text_of_any_stream_is_that_of_its_chunks_in_order(pieces) -> None:
    output = content.collector(CHAT)
    for index, piece in pieces:
        output.add(chunk(delta(index, content=piece)))
    found = {index: "" for index, _ in pieces}
    for index, piece in pieces:
        found[index] += piece
    told = [each["parts"][0]["content"] if each["parts"] else "" for each in output.messages()]
    assert told == [found[index] for index in sorted(found)]


def test_a_stream_keeps_no_more_than_may_be_recorded() -> None:
    output = content.collector(CHAT)
    for _ in range(30):
        output.add(chunk(delta(content="x" * 1_000_000)))
    (found,) = output.messages()
    assert 10_000_000 < len(found["parts"][0]["content"]) <= 11_000_001


# --- text completions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", [user(text("Once"))]),
        (["Once", "Twice"], [user(text("Once")), user(text("Twice"))]),
        ([1, 2, 3], [user({"type": "tokens", "count": 3})]),
        (
            [[1, 2], [3]],
            [user({"type": "tokens", "count": 2}), user({"type": "tokens", "count": 1})],
        ),
        (None, []),
        ([], []),
    ],
)
def test_prompts_are_messages_and_tokens_are_counted(prompt, expected) -> None:
    assert said("/completions", prompt=prompt) == expected


def test_text_completions_whole_and_streamed() -> None:
    route = find("post", "/completions")
    choices = [{"index": 0, "text": "upon", "finish_reason": "length", "logprobs": None}]
    common = {"id": "1", "created": 1, "model": "m", "object": "text_completion"}
    answer = Completion.model_validate({**common, "choices": choices})
    expected = [assistant(text("upon"), finish_reason="length")]
    assert content.output_messages(route, answer) == expected
    output = content.collector(route)
    for piece, reason in (("up", None), ("on", "length")):
        choices = [{"index": 0, "text": piece, "finish_reason": reason, "logprobs": None}]
        output.add(Completion.construct(**common, choices=choices))
    assert output.messages() == expected


# --- responses -----------------------------------------------------------------------------------


def test_input_of_responses_may_be_a_text_and_instructions_stand_apart() -> None:
    body = {"input": "Hi", "instructions": "Be brief."}
    assert said("/responses", **body) == [user(text("Hi"))]
    assert content.system_instructions(RESPONSES, body) == [text("Be brief.")]
    assert content.system_instructions(CHAT, {"messages": []}) == []


ITEMS = [
    ({"role": "user", "content": "Hi"}, user(text("Hi"))),
    (
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_image", "detail": "auto", "image_url": DATA_URL},
                {"type": "input_image", "detail": "auto", "file_id": "file-1"},
                {"type": "input_file", "file_url": "https://x.test/a.pdf"},
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,QUJD",
                },
            ],
        },
        user(
            text("Look:"),
            {"type": "blob", "modality": "image", "mime_type": "image/png", "size": SIZE},
            {"type": "file", "modality": "image", "file_id": "file-1"},
            {"type": "uri", "modality": "document", "uri": "https://x.test/a.pdf"},
            {
                "type": "blob",
                "modality": "document",
                "mime_type": "application/pdf",
                "size": 3,
                "name": "a.pdf",
            },
        ),
    ),
    (
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "rain",
            "arguments": '{"in": "Paris"}',
        },
        message(
            "assistant",
            {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}},
        ),
    ),
    (
        {"type": "function_call_output", "call_id": "call_1", "output": "rainy"},
        message("tool", {"type": "tool_call_response", "id": "call_1", "response": "rainy"}),
    ),
    (
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_image", "image_url": DATA_URL}],
        },
        message(
            "tool",
            {
                "type": "tool_call_response",
                "id": "call_1",
                "response": [
                    {"type": "blob", "modality": "image", "mime_type": "image/png", "size": SIZE}
                ],
            },
        ),
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "code", "input": "1 + 1"},
        message(
            "assistant", {"type": "tool_call", "id": "c", "name": "code", "arguments": "1 + 1"}
        ),
    ),
    (
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": ENCODED,
        },
        message("assistant", {"type": "reasoning", "content": "Hm."}),
    ),
    (
        {
            "type": "computer_call",
            "call_id": "c",
            "action": {"type": "click", "x": 1, "y": 2, "button": "left"},
        },
        message(
            "assistant",
            {
                "type": "tool_call",
                "id": "c",
                "name": "computer",
                "arguments": {"type": "click", "x": 1, "y": 2, "button": "left"},
            },
        ),
    ),
    (
        {
            "type": "computer_call_output",
            "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": DATA_URL},
        },
        message(
            "tool",
            {
                "type": "tool_call_response",
                "id": "c",
                "response": [
                    {"type": "blob", "modality": "image", "mime_type": "image/png", "size": SIZE}
                ],
            },
        ),
    ),
    (
        {
            "type": "local_shell_call",
            "call_id": "c",
            "action": {"type": "exec", "command": ["ls"], "env": {"TOKEN": "secret"}},
        },
        message(
            "assistant",
            {
                "type": "tool_call",
                "id": "c",
                "name": "local_shell",
                "arguments": {"type": "exec", "command": ["ls"]},
            },
        ),
    ),
    (
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "name": "find",
            "server_label": "docs",
            "arguments": '{"q": "x"}',
            "output": "found",
        },
        message(
            "assistant",
            {
                "type": "server_tool_call",
                "id": "mcp_1",
                "name": "find",
                "server_tool_call": {
                    "type": "mcp",
                    "server_label": "docs",
                    "arguments": {"q": "x"},
                },
            },
            {
                "type": "server_tool_call_response",
                "id": "mcp_1",
                "server_tool_call_response": {"type": "mcp", "output": "found"},
            },
        ),
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "ci",
            "code": "1 + 1",
            "container_id": "cntr",
            "status": "completed",
            "outputs": [{"type": "logs", "logs": "2"}],
        },
        message(
            "assistant",
            {
                "type": "server_tool_call",
                "id": "ci",
                "name": "code_interpreter",
                "server_tool_call": {
                    "type": "code_interpreter",
                    "code": "1 + 1",
                    "container_id": "cntr",
                },
            },
            {
                "type": "server_tool_call_response",
                "id": "ci",
                "server_tool_call_response": {
                    "type": "code_interpreter",
                    "outputs": [{"type": "logs", "logs": "2"}],
                },
            },
        ),
    ),
    (
        {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "rain"}},
        message(
            "assistant",
            {
                "type": "server_tool_call",
                "id": "ws",
                "name": "web_search",
                "server_tool_call": {
                    "type": "web_search",
                    "action": {"type": "search", "query": "rain"},
                },
            },
        ),
    ),
    (
        {"type": "image_generation_call", "id": "ig", "result": ENCODED, "status": "completed"},
        message(
            "assistant",
            {
                "type": "server_tool_call",
                "id": "ig",
                "name": "image_generation",
                "server_tool_call": {"type": "image_generation"},
            },
            {
                "type": "server_tool_call_response",
                "id": "ig",
                "server_tool_call_response": {
                    "type": "image_generation",
                    "image": {
                        "type": "blob",
                        "modality": "image",
                        "mime_type": "image/png",
                        "size": SIZE,
                    },
                },
            },
        ),
    ),
    (
        {"type": "item_reference", "id": "msg_1"},
        message("assistant", {"type": "item_reference", "id": "msg_1"}),
    ),
    (
        {"type": "compaction", "id": "c", "encrypted_content": ENCODED},
        message("assistant", {"type": "compaction", "id": "c"}),
    ),
    (
        {"type": "from_the_future", "id": "f", "payload": ENCODED},
        message("assistant", {"type": "from_the_future", "id": "f"}),
    ),
]


@pytest.mark.parametrize(("item", "expected"), ITEMS, ids=lambda each: each.get("type", "easy"))
def test_every_kind_of_item_becomes_what_it_is(item, expected) -> None:
    assert said("/responses", input=[item]) == [expected]


def response(*items: Any, status: str = "completed", **more: Any) -> Response:
    return Response.construct(
        id="resp_1",
        object="response",
        created_at=1,
        model="gpt-5",
        output=list(items),
        status=status,
        **more,
    )


WRITTEN = {
    "type": "message",
    "id": "msg",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Rain.", "annotations": []}],
}
REASONED = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]}
CALLED = {
    "type": "function_call",
    "id": "fc",
    "call_id": "call_1",
    "name": "rain",
    "arguments": "{}",
}


@pytest.mark.parametrize("plain", [False, True])
def test_a_response_is_one_message_of_all_its_items(plain) -> None:
    answer: Any = response(REASONED, WRITTEN)
    assert checked(content.output_messages(RESPONSES, answer.to_dict() if plain else answer)) == [
        assistant({"type": "reasoning", "content": "Hm."}, text("Rain."))
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(WRITTEN), "stop"),
        (response(WRITTEN, CALLED), "tool_calls"),
        (
            response(
                WRITTEN, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
            ),
            "max_output_tokens",
        ),
        (response(WRITTEN, status="incomplete"), "incomplete"),
        (response(WRITTEN, status="failed"), "error"),
        (response(WRITTEN, status="cancelled"), "cancelled"),
    ],
)
def test_the_status_of_a_response_is_its_finish_reason(answer, reason) -> None:
    (found,) = content.output_messages(RESPONSES, answer)
    assert found["finish_reason"] == reason


def events(*given: dict[str, Any]) -> list[Any]:
    return [construct_type(type_=ResponseStreamEvent, value=each) for each in given]


STREAM = events(
    {"type": "response.created", "response": response().to_dict(), "sequence_number": 0},
    {"type": "response.output_item.added", "output_index": 0, "item": REASONED | {"summary": []}},
    {
        "type": "response.reasoning_summary_text.delta",
        "output_index": 0,
        "summary_index": 0,
        "delta": "H",
        "item_id": "rs",
    },
    {
        "type": "response.reasoning_summary_text.delta",
        "output_index": 0,
        "summary_index": 0,
        "delta": "m.",
        "item_id": "rs",
    },
    {"type": "response.output_item.added", "output_index": 1, "item": WRITTEN | {"content": []}},
    {
        "type": "response.output_text.delta",
        "output_index": 1,
        "content_index": 0,
        "delta": "Ra",
        "item_id": "msg",
    },
    {
        "type": "response.output_text.delta",
        "output_index": 1,
        "content_index": 0,
        "delta": "in",
        "item_id": "msg",
    },
    {
        "type": "response.output_text.delta",
        "output_index": 1,
        "content_index": 0,
        "delta": ".",
        "item_id": "msg",
    },
    {"type": "response.output_item.added", "output_index": 2, "item": CALLED | {"arguments": ""}},
    {
        "type": "response.function_call_arguments.delta",
        "output_index": 2,
        "delta": '{"in":',
        "item_id": "fc",
    },
    {
        "type": "response.function_call_arguments.delta",
        "output_index": 2,
        "delta": ' "Paris"}',
        "item_id": "fc",
    },
)
PIECES = (
    {"type": "reasoning", "content": "Hm."},
    text("Rain."),
    {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}},
)


@pytest.mark.parametrize("convert", [lambda each: each, lambda each: each.to_dict()])
def test_a_response_that_broke_off_is_told_from_its_pieces(convert) -> None:
    output = content.collector(RESPONSES)
    for each in STREAM:
        output.add(convert(each))
    assert checked(output.messages()) == [assistant(*PIECES, finish_reason="error")]


def test_a_finished_item_replaces_its_pieces() -> None:
    output = content.collector(RESPONSES)
    done = events({"type": "response.output_item.done", "output_index": 1, "item": WRITTEN})
    for each in [*STREAM, *done]:
        output.add(each)
    assert output.messages() == [assistant(*PIECES, finish_reason="error")]


@pytest.mark.parametrize("last", ["completed", "incomplete", "failed"])
def test_the_last_event_of_a_response_tells_all(last) -> None:
    output = content.collector(RESPONSES)
    answer = response(WRITTEN, status=last).to_dict()
    for each in [*STREAM, *events({"type": f"response.{last}", "response": answer})]:
        output.add(each)
    assert output.messages() == content.output_messages(RESPONSES, answer)


def test_a_stream_without_anything_says_nothing() -> None:
    for route in ROUTES:
        assert content.collector(route).messages() == []


# --- tools ---------------------------------------------------------------------------------------


def test_tools_are_told_by_type_and_name_and_nothing_else() -> None:
    schema = {"type": "object", "description": "secret"}
    body = {
        "tools": [
            {"type": "function", "function": {"name": "rain", "parameters": schema}},
            {"type": "custom", "custom": {"name": "code"}},
            {"type": "function", "name": "flat", "parameters": schema},
            {
                "type": "mcp",
                "server_label": "docs",
                "authorization": "secret",
                "headers": {"x": "secret"},
            },
            {"type": "web_search"},
        ],
        "functions": [{"name": "old", "parameters": schema}],
    }
    assert content.tool_definitions(CHAT, body) == [
        {"type": "function", "name": "rain"},
        {"type": "custom", "name": "code"},
        {"type": "function", "name": "flat"},
        {"type": "mcp", "name": "docs"},
        {"type": "web_search", "name": "web_search"},
        {"type": "function", "name": "old"},
    ]
    assert content.tool_definitions(CHAT, {}) == []


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/embeddings", "/moderations"])
@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("one", [text("one")]),
        (["one", "two"], [text("one"), text("two")]),
        ([1, 2, 3], [{"type": "tokens", "count": 3}]),
        ([[1, 2], [3]], [{"type": "tokens", "count": 2}, {"type": "tokens", "count": 1}]),
        (
            [
                {"type": "text", "text": "one"},
                {"type": "image_url", "image_url": {"url": DATA_URL}},
            ],
            [
                text("one"),
                {"type": "blob", "modality": "image", "mime_type": "image/png", "size": SIZE},
            ],
        ),
    ],
)
def test_inputs_are_parts_of_one_message(path, given, parts) -> None:
    assert said(path, input=given) == [user(*parts)]


def test_vectors_are_never_walked() -> None:
    class Untouchable(list[float]):
        def __iter__(self) -> Any:
            raise AssertionError

        __getitem__ = __len__ = __iter__

    answer = {"data": [{"embedding": Untouchable(), "index": 0}], "model": "m"}
    assert content.output_messages(EMBEDDINGS, answer) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images/generations", {"prompt": "A cat"}),
        ("/images/edits", {"prompt": "A cat", "image": BYTES}),
        ("/audio/speech", {"input": "A cat"}),
        ("/audio/transcriptions", {"prompt": "A cat", "file": BYTES}),
        ("/videos", {"prompt": "A cat"}),
    ],
)
def test_prompts_of_pictures_and_sound(path, body) -> None:
    assert said(path, **body) == [user(text("A cat"))]


def test_pictures_are_told_by_place_or_size() -> None:
    answer = ImagesResponse.model_validate(
        {
            "created": 1,
            "output_format": "webp",
            "data": [
                {"url": "https://x.test/1.png", "revised_prompt": "A big cat"},
                {"b64_json": ENCODED},
            ],
        }
    )
    blob = {"type": "blob", "modality": "image", "mime_type": "image/webp", "size": SIZE}
    route = find("post", "/images/generations")
    assert checked(content.output_messages(route, answer)) == [
        assistant(
            text("A big cat"), {"type": "uri", "modality": "image", "uri": "https://x.test/1.png"}
        ),
        assistant(blob),
    ]
    output = content.collector(route)
    output.add(
        ImageGenCompletedEvent.construct(
            type="image_generation.completed", b64_json=ENCODED, output_format="webp"
        )
    )
    assert output.messages() == [assistant(blob)]


def test_transcripts_whole_and_streamed() -> None:
    route = find("post", "/audio/transcriptions")
    expected = [assistant(text("Hello there"))]
    assert content.output_messages(route, Transcription.construct(text="Hello there")) == expected
    assert content.output_messages(route, "Hello there") == expected
    output = content.collector(route)
    for piece in ("Hello ", "there"):
        output.add(TranscriptionTextDeltaEvent.construct(type="transcript.text.delta", delta=piece))
    assert output.messages() == [assistant(text("Hello there"), finish_reason="error")]
    output.add(
        TranscriptionTextDoneEvent.construct(type="transcript.text.done", text="Hello there")
    )
    assert output.messages() == expected


def test_decisions_are_questions_and_answers() -> None:
    decisions = pytest.importorskip("openai.types.decision", reason="openai has none before 3")
    asked = {"type": "predicate", "name": "wet", "question": "Does it rain?"}
    assert said("/decisions", input="It pours.", questions=[asked]) == [
        user(text("It pours.")),
        user({"type": "question", "question": asked}),
    ]
    wet = {"type": "predicate", "name": "wet", "probability": 0.9}
    answer = decisions.Decision.construct(answers=[wet])
    assert content.output_messages(find("post", "/decisions"), answer) == [
        assistant({"type": "predicate", "name": "wet", "probability": 0.9})
    ]


def test_runs_of_assistants() -> None:
    route = find("post", "/threads/runs")
    body = {
        "instructions": "Be brief.",
        "additional_instructions": "Really.",
        "thread": {"messages": [{"role": "user", "content": "Hi"}]},
    }
    assert checked(content.input_messages(route, body)) == [user(text("Hi"))]
    assert content.system_instructions(route, body) == [text("Be brief."), text("Really.")]
    outcomes = {"tool_outputs": [{"tool_call_id": "call_1", "output": "rainy"}]}
    assert content.input_messages(route, outcomes) == [
        message("tool", {"type": "tool_call_response", "id": "call_1", "response": "rainy"})
    ]
    waiting = Run.construct(required_action={"submit_tool_outputs": {"tool_calls": [TOOL_CALL]}})
    call = {"type": "tool_call", "id": "call_1", "name": "rain", "arguments": {"in": "Paris"}}
    assert content.output_messages(route, waiting) == [assistant(call, finish_reason="tool_calls")]
    output = content.collector(route)
    for piece in ("It ", "rains."):
        block = {"index": 0, "type": "text", "text": {"value": piece}}
        output.add(
            {
                "event": "thread.message.delta",
                "data": {"id": "msg_1", "delta": {"content": [block]}},
            }
        )
    assert output.messages() == [assistant(text("It rains."), finish_reason="error")]
    whole = {"id": "msg_1", "content": [{"type": "text", "text": {"value": "It rains."}}]}
    output.add({"event": "thread.message.completed", "data": whole})
    assert output.messages() == [assistant(text("It rains."))]


# --- anything at all -----------------------------------------------------------------------------

words = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "messages",
        "input",
        "output",
        "choices",
        "delta",
        "index",
        "message",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "image_url",
        "url",
        "input_audio",
        "data",
        "file",
        "file_data",
        "reasoning",
        "function_call",
        "function_call_output",
        "response.output_text.delta",
        "response.output_item.done",
        "response.completed",
        "item",
        "response",
        "output_index",
        "content_index",
        "summary",
        "action",
        "code",
        "finish_reason",
        "prompt",
        "questions",
        "thread",
        "answers",
        "event",
        "thread.message.delta",
        "results",
        "status",
        "tools",
        "custom",
        "audio",
        "web_search_call",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words
anything = st.recursive(
    scalars | st.just(DATA_URL) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6),
    max_leaves=30,
)


@given(
    st.sampled_from(ROUTES),
    st.dictionaries(words, anything, max_size=6),
    st.lists(anything, max_size=5),
)
def test_nothing_that_a_server_or_user_writes_raises(route, body, answers) -> None:
    output = content.collector(route)
    for answer in answers:
        output.add(answer)
    made = Content(Config())
    made.input_messages = content.input_messages(route, body)
    made.system_instructions = content.system_instructions(route, body)
    made.tool_definitions = content.tool_definitions(route, body)
    made.output_messages = [
        *output.messages(),
        *[message for answer in answers for message in content.output_messages(route, answer)],
    ]
    for message in [*made.input_messages, *made.output_messages]:
        assert isinstance(message["role"], str)
        assert all(isinstance(part["type"], str) for part in message["parts"])
    for key, value in made.for_span().items():
        assert key == semconv.CONTENT_TRUNCATED or json.loads(value)
        assert ENCODED[100:200] not in str(value)


def test_no_object_of_the_client_is_dumped() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        item = response(WRITTEN, REASONED, CALLED).output
        assert len(said("/responses", input=item)) == 3
