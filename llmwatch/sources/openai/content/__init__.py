"""What requests and answers of the API say, in the message schema of the conventions.

Pure functions and small collectors, called only where content is captured. They take what was sent
and what came as it is, objects of the client or plain JSON, keep no bytes, and raise for nothing.
What is recorded of the result, `signals.content` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llmwatch.sources.openai.content import chat, other, responses
from llmwatch.sources.openai.content.parts import Message, Part, listed, part, text
from llmwatch.sources.openai.response import get
from llmwatch.sources.openai.routes import Route

_INPUTS: dict[str, Callable[[Mapping[str, Any]], list[Message]]] = {
    "chat": chat.messages,
    "completions": chat.prompts,
    "responses": lambda body: responses.messages(body.get("input")),
    "embeddings": other.inputs,
    "moderation": other.inputs,
    "decision": other.decision,
    "run": other.thread,
}
"""By shape, or by operation where the shape says nothing."""
_OUTPUTS: dict[str, Callable[[Any], list[Message]]] = {
    "chat": chat.output,
    "completions": chat.completion_output,
    "responses": responses.output,
    "decision": other.decided,
    "run": other.run,
    "image_generation": other.images,
    "image_edit": other.images,
    "image_variation": other.images,
    "transcription": other.transcript,
    "translation": other.transcript,
}


class Collector(Protocol):
    """Puts an answer together from the chunks of its stream."""

    def add(self, chunk: Any) -> None:
        """Take what one chunk brings."""

    def messages(self) -> list[Message]:
        """What came so far."""


_COLLECTORS: dict[str, Callable[[], Collector]] = {
    "chat": chat.ChatOutput,
    "completions": chat.CompletionOutput,
    "responses": responses.ResponsesOutput,
    "run": other.RunOutput,
}


def _of(route: Route) -> str:
    return route.operation if route.shape == "other" else route.shape


def input_messages(route: Route, body: Mapping[str, Any]) -> list[Message]:
    """What a request says to the model.

    Args:
        route: What kind of request it is.
        body: Its JSON body; nothing of it is changed, and no iterator in it is used up.
    """
    return _INPUTS.get(_of(route), other.prompt)(body)


def system_instructions(route: Route, body: Mapping[str, Any]) -> list[Part]:
    """Instructions that the request gives apart from the conversation."""
    given = (body.get("instructions"), body.get("additional_instructions"))
    return [text(each) for each in given if isinstance(each, str)]


def tool_definitions(route: Route, body: Mapping[str, Any]) -> list[Part]:
    """The tools that the model may call: type and name, as the conventions recommend."""
    found = []
    for tool in listed(body.get("tools")):
        inner = get(tool, "function") or get(tool, "custom") or tool
        name = get(inner, "name") or get(tool, "server_label") or get(tool, "type")
        found.append(part(str(get(tool, "type") or "function"), name=name))
    return found + [
        part("function", name=get(each, "name")) for each in listed(body.get("functions"))
    ]


def output_messages(route: Route, answer: Any) -> list[Message]:
    """What a whole answer says; empty where it says nothing that is text, call or file."""
    read = _OUTPUTS.get(_of(route))
    return read(answer) if read is not None else []


def collector(route: Route) -> Collector:
    """What puts together an answer that is streamed."""
    return _COLLECTORS.get(_of(route), other.EventsOutput)()
