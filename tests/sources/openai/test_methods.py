"""Every method of the client that causes inference gives one span; no method is unknown to us."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from llmwatch import semconv
from llmwatch.testing import Captured
from tests.sources.openai import transport
from tests.sources.openai.enumerate_methods import KINDS, classified, methods, plain

# Some of the client's methods are deprecated by the client; they are watched all the same.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGES = [{"role": "user", "content": "hi"}]
Client = Any


def sound() -> io.BytesIO:
    file = io.BytesIO(b"RIFF")
    file.name = "a.wav"
    return file


CALLS: dict[str, tuple[str, Callable[[Client], Any]]] = {
    "chat.completions.completions.Completions.create": (
        "chat m", lambda c: c.chat.completions.create(model="m", messages=MESSAGES)),
    "chat.completions.completions.Completions.parse": (
        "chat m", lambda c: c.chat.completions.parse(model="m", messages=MESSAGES)),
    "responses.responses.Responses.create": ("chat m", lambda c: c.responses.create(model="m", input="hi")),
    "responses.responses.Responses.parse": ("chat m", lambda c: c.responses.parse(model="m", input="hi")),
    "responses.responses.Responses.compact": ("compact m", lambda c: c.responses.compact(model="m", input="hi")),
    "responses.responses.Responses.retrieve": ("fetch_response", lambda c: c.responses.retrieve("resp_1")),
    "beta.responses.responses.Responses.create": (
        "chat m", lambda c: c.beta.responses.create(model="m", input="hi")),
    "beta.responses.responses.Responses.compact": (
        "compact m", lambda c: c.beta.responses.compact(model="m", input="hi")),
    "beta.responses.responses.Responses.retrieve": (
        "fetch_response", lambda c: c.beta.responses.retrieve("resp_1")),
    "completions.Completions.create": (
        "text_completion m", lambda c: c.completions.create(model="m", prompt="hi")),
    "embeddings.Embeddings.create": ("embeddings m", lambda c: c.embeddings.create(model="m", input=["a", "b"])),
    "images.Images.generate": ("image_generation m", lambda c: c.images.generate(model="m", prompt="a cat")),
    "images.Images.edit": ("image_edit m", lambda c: c.images.edit(model="m", prompt="a cat", image=b"PNG")),
    "images.Images.create_variation": (
        "image_variation m", lambda c: c.images.create_variation(model="m", image=b"PNG")),
    "audio.speech.Speech.create": (
        "speech_generation m", lambda c: c.audio.speech.create(model="m", input="hi", voice="alloy")),
    "audio.transcriptions.Transcriptions.create": (
        "transcription m", lambda c: c.audio.transcriptions.create(model="m", file=sound())),
    "audio.translations.Translations.create": (
        "translation m", lambda c: c.audio.translations.create(model="m", file=sound())),
    "moderations.Moderations.create": ("moderation m", lambda c: c.moderations.create(model="m", input="hi")),
    "videos.Videos.create": ("video_generation m", lambda c: c.videos.create(model="m", prompt="a cat")),
    "videos.Videos.edit": ("video_edit", lambda c: c.videos.edit(prompt="a cat", video=b"MP4")),
    "videos.Videos.extend": ("video_extension", lambda c: c.videos.extend(prompt="on", seconds="4", video=b"MP4")),
    "videos.Videos.remix": ("video_remix", lambda c: c.videos.remix("video_1", prompt="a dog")),
    "beta.threads.runs.runs.Runs.create": (
        "invoke_agent", lambda c: c.beta.threads.runs.create("thread_1", assistant_id="a")),
    "beta.threads.runs.runs.Runs.submit_tool_outputs": (
        "invoke_agent",
        lambda c: c.beta.threads.runs.submit_tool_outputs("run_1", thread_id="thread_1", tool_outputs=[])),
    "beta.threads.threads.Threads.create_and_run": (
        "invoke_agent m", lambda c: c.beta.threads.create_and_run(assistant_id="a", model="m")),
    "fine_tuning.alpha.graders.Graders.run": (
        "evaluation",
        lambda c: c.fine_tuning.alpha.graders.run(
            grader={"type": "string_check", "name": "g", "input": "a", "operation": "eq", "reference": "a"},
            model_sample="a")),
}  # fmt: skip
"""Inference methods, the span name each gives, and how to call it."""

if int(openai.__version__.partition(".")[0]) >= 3:
    CALLS |= {
        "decisions.Decisions.create": (
            "decision m", lambda c: c.post("/decisions", body={"model": "m"}, cast_to=object)),
        "beta.agents.sessions.sessions.Sessions.create": (
            "create_agent m", lambda c: c.post("/agents/sessions", body={"model": "m"}, cast_to=object)),
        "beta.agents.sessions.events.Events.create": (
            "invoke_agent", lambda c: c.beta.agents.sessions.events.create("sess_1", events=[])),
        "beta.agents.sessions.events.Events.stream": (
            "invoke_agent", lambda c: list(c.beta.agents.sessions.events.stream("sess_1"))),
    }  # fmt: skip

VIDEOS = pytest.mark.skipif(not hasattr(openai.OpenAI, "videos"), reason="openai 1 has no videos")
HERE = {plain(name) for name in methods()}


@pytest.mark.skipif(openai.__version__ < "3", reason="the table describes openai 3")
def test_every_method_of_the_client_is_classified() -> None:
    """A new openai release shows what it adds; a method that is gone leaves the table too."""
    table = classified()
    assert set(table.values()) <= set(KINDS)
    assert sorted(HERE - table.keys()) == []
    assert sorted(table.keys() - HERE) == []


def test_only_live_sessions_are_not_watched_yet() -> None:
    """What causes inference and is not watched is named, and it is little."""
    missing = {name for name, kind in classified().items() if kind == "not-yet"}
    assert all(name.startswith("live.") for name in missing)


def test_every_inference_method_is_called_here() -> None:
    """No method is called inference without a call that shows its span."""
    table = classified()
    inference = {name for name in HERE if table.get(name) == "inference"}
    assert sorted(inference - CALLS.keys()) == []


@pytest.mark.parametrize("name", [name for name in CALLS if name in HERE])
def test_an_inference_method_gives_one_span(seen: Captured, name: str) -> None:
    """One client span of the right name, whatever the method; the answer passes through."""
    span_name, call = CALLS[name]
    with transport.client() as client:
        call(client)
    (span,) = seen.spans
    assert (span.name, span.kind) == (span_name, SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes[semconv.OPERATION_NAME] == span_name.partition(" ")[0]
    assert span.attributes[semconv.SERVER_ADDRESS] == "mock.invalid"
    assert span.attributes[semconv.SERVER_PORT] == 80
    assert span.attributes[semconv.REQUEST_ID] == "req_1"


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.models.list(),
        lambda c: c.files.list(),
        lambda c: c.chat.completions.retrieve("chatcmpl-1"),
        lambda c: c.responses.cancel("resp_1"),
        pytest.param(lambda c: c.videos.retrieve("video_1"), marks=VIDEOS),
        lambda c: c.get("/anything", cast_to=object),
    ],
)
def test_other_methods_give_no_span(seen: Captured, call: Callable[[Client], Any]) -> None:
    """What causes no inference is none of our business."""
    with transport.client() as client:
        call(client)
    assert seen.spans == []


POLLING: list[Any] = [
    pytest.param(
        "video_generation m", lambda c: c.videos.create_and_poll(model="m", prompt="a cat"), marks=VIDEOS),
    ("invoke_agent m", lambda c: c.beta.threads.create_and_run_poll(assistant_id="a", model="m")),
    ("invoke_agent", lambda c: c.beta.threads.runs.create_and_poll(thread_id="thread_1", assistant_id="a")),
]  # fmt: skip


@pytest.mark.parametrize(("span_name", "call"), POLLING)
def test_a_polling_helper_is_one_operation(
    seen: Captured, span_name: str, call: Callable[[Client], Any]
) -> None:
    """Creating and polling until done is one span, with the usage that is known at the end."""
    with transport.client() as client:
        call(client)
    (span,) = seen.spans
    assert span.name == span_name
    if "agent" in span_name:
        assert span.attributes[semconv.USAGE_OUTPUT_TOKENS] == 5
        assert span.attributes[semconv.CONVERSATION_ID] == "thread_1"
