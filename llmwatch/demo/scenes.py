"""What the demo asks of a server: a small program for each kind of call, as a user would write it.

The server needs to be told how to answer (`Stage.answer`); the rest of each scene is plain use of
the client, and nothing in it knows that it is watched.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import openai
from openai import OpenAI

import llmwatch
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from llmwatch.demo.wire import Exchange

MESSAGES: Any = [
    {"role": "system", "content": "You are a poet who lives by the sea."},
    {"role": "user", "content": "Describe a harbour at dusk, in a few sentences."},
]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
USAGE: Any = {"include_usage": True}
THE_STREAM = "chat, streamed"
"""Title of the scene whose chunks the demo looks at closely."""


@dataclass
class Stage:
    """What a scene plays on."""

    server: Server
    client: OpenAI
    exchanges: dict[str, list[Exchange]] = field(default_factory=dict)
    """What the server recorded, by title of the scene."""

    def play(self, scene: Scene) -> None:
        """Play one scene; its title goes on everything that llmwatch sees meanwhile."""
        before = len(self.server.exchanges)
        with llmwatch.attributes(route=scene.title):
            scene.play(self)
        self.exchanges[scene.title] = self.server.exchanges[before:]

    def answer(self, *scripts: Script) -> None:
        """Say how the server shall answer the next requests."""
        self.server.enqueue(*scripts)


class Scene(NamedTuple):
    """One kind of call."""

    title: str
    play: Callable[[Stage], None]


def tokens(first: float, each: float, number: int, *, seed: int = 1) -> tuple[float, ...]:
    """Seconds before each token: a first one, then log-normal gaps as models have them."""
    random = Random(seed)  # noqa: S311 - timing, not a secret
    gaps = (random.lognormvariate(math.log(each), 0.35) for _ in range(number - 1))
    return (first, *gaps)


def chat(stage: Stage) -> None:
    """A plain answer."""
    stage.answer(Script(delay=0.3, chunks=40, cached_tokens=16))
    stage.client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def chat_streamed(stage: Stage) -> None:
    """A streamed answer that stalls once for more than a second."""
    delays = list(tokens(0.25, 0.02, 60))
    delays[40] = 1.05
    stage.answer(Script(delay=0.04, delays=tuple(delays), chunks=60))
    stream = stage.client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options=USAGE
    )
    for _ in stream:
        pass


def tools(stage: Stage) -> None:
    """The model calls a tool, and answers with its result."""
    stage.answer(Script(delay=0.2, tool_calls=1), Script(delay=0.2, chunks=20))
    offered: Any = [{"type": "function", "function": WEATHER}]
    messages = list(MESSAGES)
    completion = stage.client.chat.completions.create(
        model="gpt-4.1", messages=messages, tools=offered
    )
    message = completion.choices[0].message
    for call in message.tool_calls or []:
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Rain, 9 °C."}]
    stage.client.chat.completions.create(model="gpt-4.1", messages=messages, tools=offered)


def response_streamed(stage: Stage) -> None:
    """A reasoning model: first it thinks, then it speaks."""
    stage.answer(Script(delays=tokens(0.15, 0.018, 44), chunks=26, reasoning=18))
    stream = stage.client.responses.create(
        model="gpt-5", input="Describe a harbour at dusk.", reasoning={"effort": "low"}, stream=True
    )
    for _ in stream:
        pass


def embeddings(stage: Stage) -> None:
    """Three vectors."""
    stage.answer(Script(delay=0.06))
    texts = ["The ferry is late.", "Lamps along the quay.", "Rain on the water, all evening long."]
    stage.client.embeddings.create(model="text-embedding-3-small", input=texts)


def retried(stage: Stage) -> None:
    """Refused once for its rate; the client waits, tries again and is answered."""
    stage.answer(Script(status=429, retry_after=0.3), Script(delay=0.1))
    stage.client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def broken(stage: Stage) -> None:
    """The connection breaks in the middle of a stream."""
    script = Script(delays=tokens(0.1, 0.02, 12), chunks=30, fault="drop", fault_after=12)
    stage.answer(script)
    stream = stage.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    with suppress(openai.APIConnectionError):
        for _ in stream:
            pass


def abandoned(stage: Stage) -> None:
    """The program loses interest, and does not even close the stream."""
    stage.answer(Script(delays=tokens(0.1, 0.02, 40), chunks=40))
    stream = stage.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    for number, _ in enumerate(stream):
        if number == 8:
            break
    del stream
    gc.collect()  # it is part of a reference cycle; sooner or later Python does this itself


@llmwatch.watch(name="harbour guide", operation="invoke_agent", provider="local")
def guide(client: OpenAI, question: str) -> str:
    """A function that calls models: their spans become its children."""
    client.embeddings.create(model="text-embedding-3-small", input=question)
    completion = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return completion.choices[0].message.content or ""


def own_agent(stage: Stage) -> None:
    """A decorated function with calls inside."""
    stage.answer(Script(delay=0.05), Script(delay=0.3, chunks=30))
    guide(stage.client, "When does the ferry leave?")


SCENES = (
    Scene("chat", chat),
    Scene(THE_STREAM, chat_streamed),
    Scene("response, streamed", response_streamed),
    Scene("tool call", tools),
    Scene("embeddings", embeddings),
    Scene("retried", retried),
    Scene("broken stream", broken),
    Scene("abandoned stream", abandoned),
    Scene("@watch agent", own_agent),
)
