"""A fault in any function of ours never reaches the user: same results, same exceptions.

Each function and method of the floors that run inside a user's call is replaced, one at a time, by
one that raises; the same program must then give the same results as without llmwatch.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import llmwatch.measure
import llmwatch.signals
import llmwatch.sources.openai
from llmwatch import _guard
from llmwatch.testing import capture
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

CARRIERS = {
    # These *are* the user's call or stream on its way through us: what they do around it is in
    # functions of its own, each of which is broken here.
    "Calls.request", "Calls.arequest", "Calls.build_request", "Calls.process_response",
    "Calls.pool_wait", "Calls.apool_wait", "Call.leave", "Operation.leave", "timed", "atimed",
    # The whole body of these is inside a guard; what they call is broken here.
    "Calls.begin", "Call.enter", "Call.end", "Call.fail", "Operation.finish", "Operation.abandon",
    "Call.refused", "Call.note_refusal",  # only after ``stream_usage`` asked
    "_hide", "_ahide", "hide", "_only_usage", "attributes", "detach",
}  # fmt: skip

SKIPPED_MODULES = {
    "llmwatch.sources.openai.websocket", "llmwatch.sources.openai.channel",  # tested on their own
    "llmwatch.sources.openai.polling", "llmwatch.sources.openai.source",
    "llmwatch.signals.door", "llmwatch.signals.steps",
}  # fmt: skip


def functions() -> Iterator[tuple[Any, str, str]]:
    """Owner, attribute and label of everything that runs inside a user's call."""
    for package in (llmwatch.measure, llmwatch.signals, llmwatch.sources.openai):
        for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if info.name in SKIPPED_MODULES:
                continue
            module = importlib.import_module(info.name)
            for name, value in list(vars(module).items()):
                if getattr(value, "__module__", None) != info.name:
                    continue
                if inspect.isfunction(value):
                    yield module, name, name
                elif inspect.isclass(value):
                    for method, function in list(vars(value).items()):
                        if inspect.isfunction(function) and (
                            method[:2] != "__" or method == "__init__"
                        ):
                            yield value, method, f"{name}.{method}"


CASES = [
    pytest.param(owner, name, id=label)
    for owner, name, label in functions()
    if label not in CARRIERS
]


def program() -> list[Any]:
    """One of everything, and what the user gets of it."""
    seen: list[Any] = []
    with transport.client() as client:
        seen.append(client.chat.completions.create(**ASK, tools=[TOOL]).model_dump())
        seen.append(client.responses.create(model="m", input="hi").output_text)
        seen.append(client.embeddings.create(model="m", input=["a"]).data[0].embedding)
        seen.append(
            [chunk.model_dump() for chunk in client.chat.completions.create(**ASK, stream=True)]
        )
        seen.append(
            [event.type for event in client.responses.create(model="m", input="hi", stream=True)]
        )
        seen.append(client.chat.completions.with_raw_response.create(**ASK).parse().model_dump())
        with client.chat.completions.with_streaming_response.create(**ASK) as response:
            seen.append(response.json())
        stream = client.chat.completions.create(**ASK, stream=True)
        seen.append(next(stream).id)
        stream.close()
        del stream
        for headers in ({"x-status": "429"}, {"x-status": "400"}):
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(**ASK, extra_headers=headers)
            seen.append((caught.type, str(caught.value)))
        stream = client.chat.completions.create(
            **ASK, stream=True, extra_headers={"x-fail-at": "2"}
        )
        with pytest.raises(Exception, match=r"onnection") as broken:
            list(stream)
        seen.append(broken.type)
    seen.append(asyncio.run(aprogram()))
    return seen


async def aprogram() -> list[Any]:
    """The same in brief, asynchronously."""
    async with transport.aclient() as client:
        whole = await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(**ASK, stream=True)
        return [whole.model_dump(), [chunk.model_dump() async for chunk in stream]]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """What the program gives without llmwatch."""
    return program()


def test_the_program_gives_the_same_with_llmwatch(expected: list[Any]) -> None:
    """Nothing is changed by being watched, content captured or not."""
    with capture(capture_content=True, operation_events=True, stream_usage=True) as seen:
        assert program() == expected
    assert len(seen.spans) == 13


def test_there_is_much_to_break() -> None:
    """The enumeration finds our functions: a check that could not fail would prove nothing."""
    assert len(CASES) > 100


@pytest.mark.parametrize(("owner", "name"), CASES)
def test_a_fault_in_one_function_never_reaches_the_user(
    monkeypatch: pytest.MonkeyPatch, expected: list[Any], owner: Any, name: str
) -> None:
    """Whatever breaks inside, the user's program is the same."""
    monkeypatch.setattr(_guard, "strict", False)
    with capture(capture_content=True, operation_events=True), monkeypatch.context() as broken:

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"injected into {name}")

        broken.setattr(owner, name, fail)
        assert program() == expected
