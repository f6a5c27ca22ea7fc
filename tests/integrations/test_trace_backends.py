"""Phoenix and MLflow read what their presets send: tokens, messages, tools, costs, as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from openai import InternalServerError, OpenAI

import llmwatch
from llmwatch.demo.server import Server
from llmwatch.measure.record import OperationRecord
from tests.integrations.trace_backends import ENVIRONMENTS, SERVERS, Backend, Stored

if not ENVIRONMENTS:
    pytest.skip("no environment of a backend is named", allow_module_level=True)

pytestmark = pytest.mark.timeout(600)

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
SYSTEM: Any = {"role": "system", "content": "Be brief."}
QUESTION: Any = {"role": "user", "content": "Weather in Ålesund?"}
CALL: Any = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        }
    ],
}
RESULT: Any = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
ANSWER = "Rain fell softly"


@pytest.fixture(scope="module", params=list(ENVIRONMENTS))
def backend(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Backend]:
    """A running server."""
    name = request.param
    running = SERVERS[name](ENVIRONMENTS[name], tmp_path_factory.mktemp(name))
    yield running
    running.stop()


class Records:
    """What llmwatch measured, to compare with."""

    def __init__(self) -> None:
        self.seen: list[OperationRecord] = []

    def started(self, operation: Any) -> None:
        """Nothing to do."""

    def finished(self, operation: Any, record: OperationRecord) -> None:
        """Keep it."""
        self.seen.append(record)


def work(client: OpenAI) -> None:
    """One call of each kind."""
    create = client.chat.completions.create
    create(model="gpt-4o", messages=[SYSTEM, QUESTION], tools=TOOLS)
    script = {"x-llmwatch-script": json.dumps({"text": ANSWER, "reasoning": 3, "cached_tokens": 4})}
    for _ in create(
        model="gpt-4o",
        messages=[SYSTEM, QUESTION, CALL, RESULT],
        stream=True,
        extra_headers=script,
    ):
        pass
    client.responses.create(model="gpt-4o", instructions="Be brief.", input="Why?")
    client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    broken = {"x-llmwatch-script": json.dumps({"status": 500})}
    with pytest.raises(InternalServerError):
        create(model="gpt-4o", messages=[QUESTION], extra_headers=broken)


@pytest.fixture(scope="module")
def sent(backend: Backend) -> tuple[list[OperationRecord], list[Stored]]:
    """What was measured, and what the backend holds of it."""
    records = Records()
    with pytest.MonkeyPatch.context() as patch, Server() as server:
        for name, value in backend.variables.items():
            patch.setenv(name, value)
        llmwatch.instrument(
            backend=type(backend).__name__.lower(),
            capture_content="span_only",
            stream_usage=True,
            sources=("openai",),
            flush_timeout=60,
        )
        llmwatch.session.current().signals.listeners += (records,)
        with (
            OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client,
            llmwatch.attributes(session="s-1", user="u-1"),
        ):
            work(client)
        assert llmwatch.shutdown(60)
    deadline = monotonic() + 60
    while len(stored := backend.stored()) < 5 or stored[0].reckoned is None:
        assert monotonic() < deadline, stored
        sleep(0.5)
    return records.seen, stored


def test_every_operation_arrives_once(sent: tuple[list[OperationRecord], list[Stored]]) -> None:
    records, stored = sent
    assert [each.name for each in stored] == [
        f"{each.series.operation} {each.series.request_model}" for each in records
    ]
    assert [each.failed for each in stored] == [False, False, False, False, True]
    assert {(each.session, each.user) for each in stored} == {("s-1", "u-1")}
    chat = stored[0].kind
    assert chat in ("LLM", "CHAT_MODEL")
    assert [each.kind for each in stored] == [chat, chat, chat, "EMBEDDING", chat]


def test_tokens_are_as_reported(sent: tuple[list[OperationRecord], list[Stored]]) -> None:
    records, stored = sent
    for record, each in zip(records, stored, strict=True):
        usage = record.usage
        assert each.tokens == (usage and usage.input_tokens, usage and usage.output_tokens)
    usage = records[1].usage
    assert usage is not None
    assert (stored[1].cached, stored[1].reasoning) == (4, 3)
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (4, 3)


def test_costs_are_as_computed(sent: tuple[list[OperationRecord], list[Stored]]) -> None:
    """Sent as they are; what the backend shows beside that, by its own prices, is near."""
    records, stored = sent
    assert [each.cost for each in stored] == [record.cost for record in records]
    assert [record.cost is None for record in records] == [False] * 4 + [True]
    for each in stored[:3]:
        assert each.reckoned == pytest.approx(each.cost, rel=0.2)


def test_messages_are_as_they_were(sent: tuple[list[OperationRecord], list[Stored]]) -> None:
    """Roles, texts, calls of tools and their results; the system's instructions among them."""
    _, stored = sent
    plain, tools, responses, embeddings, failed = (list(each.messages) for each in stored)
    asked = [("system", "Be brief."), ("user", "Weather in Ålesund?")]
    assert plain[:2] == asked
    assert plain[2][0] == "assistant"
    assert tools[:4] == [*asked, ("assistant", "get_weather {'city': 'Oslo'}"), ("tool", "rain")]
    assert tools[4][1].endswith(ANSWER)
    assert responses[:2] == [("system", "Be brief."), ("user", "Why?")]
    assert embeddings == [("user", "one\ntwo")]
    assert failed == [("user", "Weather in Ålesund?")]
    assert stored[0].tools == ("get_weather",)
