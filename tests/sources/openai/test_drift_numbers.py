"""Numbers of finished calls feed drift monitors: lengths, latencies, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import openai
import pytest

import llmwatch
from llmwatch import ConfigError, DriftMonitor, semconv
from llmwatch.drift import registry
from llmwatch.drift.reference import fit_reference
from llmwatch.testing import capture
from tests.sources.openai import transport
from tests.sources.openai.transport import httpx

MESSAGES: Any = [{"role": "user", "content": "hello"}]
EVERY = (
    "input_tokens",
    "output_tokens",
    "duration",
    "time_to_first_token",
    "time_per_output_token",
    "refused",
)


def opened() -> dict[str, DriftMonitor]:
    return {each.name: each for each in registry.living()}


def seen() -> dict[str, int]:
    """How many numbers each monitor got."""
    return {name: sum(each.status().seen.values()) for name, each in opened().items()}


def refusing(request: httpx.Request) -> httpx.Response:
    """Answers what the request's user says it should."""
    body = json.loads(request.content)
    if "input" in body:
        content = [{"type": body["input"], "refusal": "no", "text": "yes", "annotations": []}]
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
        answer = transport.response_object("m") | {"output": [{**item, "content": content}]}
        return httpx.Response(200, json=answer)
    how = body["messages"][0]["content"]
    if how == "blocked":
        error = {"error": {"message": "no", "code": "content_filter", "type": "t"}}
        return httpx.Response(400, json=error)
    reason = "content_filter" if how == "filtered" else "stop"
    said = {"role": "assistant", "content": None, "refusal": "I cannot"}
    if how != "refused":
        said = {"role": "assistant", "content": "yes", "refusal": None}
    if body.get("stream"):
        pieces = [
            {"index": 0, "delta": said, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": reason},
        ]
        frames = [transport.chat_frame("chat.completion.chunk", "m", [piece]) for piece in pieces]
        lines = b"".join(transport.sse(frame) for frame in [*frames, "[DONE]"])
        return httpx.Response(200, content=lines, headers={"content-type": "text/event-stream"})
    choice = {"index": 0, "message": said, "finish_reason": reason, "logprobs": None}
    return httpx.Response(200, json=transport.chat_frame("chat.completion", "m", [choice]))


@pytest.fixture
def client():
    http = httpx.Client(transport=httpx.MockTransport(refusing))
    with openai.OpenAI(**transport.settings({"max_retries": 0}), http_client=http) as made:
        yield made


def test_every_call_and_stream_feeds_what_it_tells():
    with capture(drift_numbers=EVERY), transport.client() as client:
        client.chat.completions.create(model="m", messages=MESSAGES)
        counted: Any = {"stream": True, "stream_options": {"include_usage": True}}
        list(client.chat.completions.create(model="m", messages=MESSAGES, **counted))
        client.embeddings.create(model="m", input=["a"])
        llmwatch.flush()
        found = seen()
    assert found == {
        "chat input_tokens": 2,
        "chat output_tokens": 2,
        "chat duration": 2,
        "chat time_to_first_token": 1,
        "chat time_per_output_token": 1,
        "chat refused": 2,
        "embeddings input_tokens": 1,
        "embeddings duration": 1,
    }


def test_a_given_monitor_gets_the_numbers_themselves():
    reference = fit_reference(np.full(400, 9.0), window=100)
    monitor = DriftMonitor("lengths", reference, window=100)
    with capture(drift_numbers={"input_tokens": monitor}) as told, transport.client() as client:
        with llmwatch.attributes(session="s1"):
            for _ in range(3):
                client.chat.completions.create(model="m", messages=MESSAGES)
        client.chat.completions.create(model="m", messages=MESSAGES)
        llmwatch.flush()
        (key,) = monitor.status().keys
    assert (key.filled, key.thinned) == (2, 2)
    assert monitor.state().counts.tolist() == [0, 2, 0]
    assert set(key.foreign_traces) <= {f"{span.context.trace_id:032x}" for span in told.spans}


async def test_asynchronous_calls_too():
    with capture(drift_numbers="output_tokens"):
        async with transport.aclient() as client:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        llmwatch.flush()
        assert seen() == {"chat output_tokens": 1}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["refused", "filtered", "blocked", "fine"])
def test_a_refusal_is_told_by_its_field_its_finish_reason_or_its_error(client, how, stream):
    reference = fit_reference(np.zeros(400), window=100)
    monitor = DriftMonitor("refusals", reference, window=100)
    with capture(drift_numbers={"refused": monitor}):
        try:
            answer = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": how}], stream=stream
            )
            list(answer)
        except openai.BadRequestError:
            assert how == "blocked"
    assert monitor.state().counts.tolist() == ([0, 1, 0] if how == "fine" else [0, 0, 1])


@pytest.mark.parametrize(("kind", "counts"), [("refusal", [0, 0, 1]), ("output_text", [0, 1, 0])])
def test_the_responses_api_tells_refusals_too(client, kind, counts):
    monitor = DriftMonitor("refusals", fit_reference(np.zeros(400), window=100), window=100)
    with capture(drift_numbers={"refused": monitor}):
        client.responses.create(model="m", input=kind)
    assert monitor.state().counts.tolist() == counts


def test_failed_and_unfinished_answers_have_no_length():
    names = ("output_tokens", "duration", "refused")
    with capture(drift_numbers=names), transport.client(max_retries=0) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(
                model="m", messages=MESSAGES, extra_headers={"x-status": "500"}
            )
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        next(iter(stream))
        stream.close()
        llmwatch.flush()
        assert not seen()


def test_refusals_that_begin_after_none_are_an_alarm(client):
    """End to end: the reference is 400 answers, all of them fine."""
    random = np.random.default_rng(0)
    monitor = DriftMonitor("refusals", "first:400", window=100)
    with capture(drift_numbers={"refused": monitor}) as told:

        def ask(refused: float, many: int) -> None:
            for drawn in random.random(many):
                how = "refused" if drawn < refused else "fine"
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": how}]
                )
            llmwatch.flush()

        ask(0, 400)
        assert monitor.wait(60)
        ask(0, 100)
        assert not monitor.status().alarm
        ask(0.15, 150)
        assert monitor.status().alarm, str(monitor.status())
    raised = [each for each in told.events if each.event_name == semconv.EVENT_DRIFT_RAISED]
    assert len(raised) == 1
    assert raised[0].attributes[semconv.DRIFT_MONITOR] == "refusals"


def test_monitors_are_bounded_and_a_full_queue_is_counted(monkeypatch, caplog):
    from llmwatch.signals import drift_numbers

    monkeypatch.setattr(drift_numbers, "MOST_MONITORS", 2)
    monkeypatch.setattr(drift_numbers, "MOST_WAITING", 3)
    monkeypatch.setattr(drift_numbers, "PAUSE", 30.0)
    with capture(drift_numbers=["input_tokens"]), transport.client() as client:
        for model in ("a", "b", "c", "d"):
            client.chat.completions.create(model=model, messages=MESSAGES)
        llmwatch.flush()
        assert [sum(each.status().seen.values()) for each in registry.living()] == [1, 1]
        assert sum(each.invalid["overflow"] for each in registry.living()) == 1
    assert "there are 2" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["tokens"], "output_tokens"),
        ({"duration": "last:5"}, "first:2000"),
        (7, "strings"),
        ({"duration": 3}, "first:2000"),
        ("duration=sliding:1w", "first:2000"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        llmwatch.instrument(drift_numbers=value)


def test_the_environment_can_give_references_too(monkeypatch):
    monkeypatch.setenv("LLMWATCH_DRIFT_NUMBERS", "output_tokens, duration=sliding:24h")
    found = llmwatch.Config.load().drift_numbers
    assert found == {"output_tokens": "first:2000", "duration": "sliding:24h"}


def test_numbers_are_kept_apart_by_what_the_program_says_of_its_calls(client):
    with capture(drift_numbers=["duration"], drift_key="tenant"):
        for tenant in ("one", "two", "one"):
            with llmwatch.attributes(tenant=tenant):
                client.chat.completions.create(model="m", messages=MESSAGES)
        llmwatch.flush()
        (monitor,) = (each for each in registry.living() if each.name == "chat duration")
        assert dict(monitor.status().seen) == {"one": 2, "two": 1}
