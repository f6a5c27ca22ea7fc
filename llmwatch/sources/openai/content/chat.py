"""Chat completions and text completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch.sources.openai.content.parts import (
    Message,
    Part,
    Pieces,
    blob,
    listed,
    number,
    part,
    parts,
    text,
    tool_call,
    tool_response,
)
from llmwatch.sources.openai.response import get


def messages(body: Mapping[str, Any]) -> list[Message]:
    """The messages of a chat request, system ones among them where they stand."""
    return [message(each) for each in listed(body.get("messages"))]


def message(given: Any) -> Message:
    """One message of a request or an answer."""
    role = get(given, "role")
    content = get(given, "content")
    if role in ("tool", "function"):
        found = [tool_response(get(given, "tool_call_id") or get(given, "name"), content)]
    else:
        found = _parts(given, content)
    made: Message = {"role": role if isinstance(role, str) else "unknown", "parts": found}
    if isinstance(name := get(given, "name"), str):
        made["name"] = name
    return made


def _parts(given: Any, content: Any) -> list[Part]:
    found: list[Part] = []
    reasoning = get(given, "reasoning_content") or get(given, "reasoning")
    if isinstance(reasoning, str):
        found.append(part("reasoning", content=reasoning))
    found += parts(content)
    if isinstance(refusal := get(given, "refusal"), str):
        found.append(part("refusal", content=refusal))
    if (audio := get(given, "audio")) is not None:
        found += _audio(get(audio, "transcript"), get(audio, "data"), get(audio, "id"))
    found += [_call(call) for call in listed(get(given, "tool_calls"))]
    if (call := get(given, "function_call")) is not None:
        found.append(tool_call(None, get(call, "name"), get(call, "arguments")))
    return found


def _audio(transcript: Any, data: Any, identity: Any) -> list[Part]:
    found = [text(transcript)] if isinstance(transcript, str) and transcript else []
    if data is not None:
        return [*found, blob(data, "audio")]
    return found or [part("audio", id=identity)]  # an earlier answer, referred to


def _call(call: Any) -> Part:
    function, custom = get(call, "function"), get(call, "custom")
    if custom is not None:
        return tool_call(get(call, "id"), get(custom, "name"), get(custom, "input"))
    if function is not None:
        return tool_call(get(call, "id"), get(function, "name"), get(function, "arguments"))
    return tool_call(get(call, "id"), get(call, "type"), None)


def output(answer: Any) -> list[Message]:
    """The choices of a chat completion."""
    return [
        {"role": "assistant"} | message(get(choice, "message")) | _finish(choice)
        for choice in listed(get(answer, "choices"))
    ]


def _finish(choice: Any) -> Message:
    reason = get(choice, "finish_reason")
    return {"finish_reason": reason if isinstance(reason, str) else "error"}


class ChatOutput:
    """The choices of a streamed chat completion, put together from its chunks."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Any) -> None:
        """Take what one chunk brings.

        Cost: about 1 µs for the common chunk, which only brings more text.
        """
        try:
            (choice,) = chunk.choices
            delta = choice.delta
            content = delta.content
            only_text = content is not None and len(delta.__pydantic_fields_set__) == 1
            if only_text and choice.finish_reason is None:
                self._choices[choice.index].text.add(content)
                return
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # not that common chunk, or not an object of the client
        for choice in listed(get(chunk, "choices")):
            state = self._choices.setdefault(number(get(choice, "index")), _Choice())
            if (reason := get(choice, "finish_reason")) is not None:
                state.finish_reason = str(reason)
            state.add(get(choice, "delta"))

    def messages(self) -> list[Message]:
        """What came so far; a choice that did not come to its end has the reason ``error``."""
        return [self._choices[index].message() for index in sorted(self._choices)]


class _Choice:
    """One choice: what came of it so far."""

    def __init__(self) -> None:
        self.text = Pieces()
        self.finish_reason = "error"
        self.role = "assistant"
        self.reasoning = Pieces()
        self.refusal = Pieces()
        self.transcript = Pieces()
        self.audio = 0
        """Characters of base64."""
        self.calls: dict[int, _Call] = {}

    def add(self, delta: Any) -> None:
        """Take whatever a chunk brings for this choice."""
        self.text.add(get(delta, "content"))
        if isinstance(role := get(delta, "role"), str):
            self.role = role
        self.reasoning.add(get(delta, "reasoning_content") or get(delta, "reasoning"))
        self.refusal.add(get(delta, "refusal"))
        if (audio := get(delta, "audio")) is not None:
            self.transcript.add(get(audio, "transcript"))
            if isinstance(data := get(audio, "data"), str):
                self.audio += len(data)
        for call in listed(get(delta, "tool_calls")):
            self._call(number(get(call, "index"))).add(get(call, "id"), get(call, "function"))
        if (call := get(delta, "function_call")) is not None:
            self._call(-1).add(None, call)

    def _call(self, index: int) -> _Call:
        return self.calls.setdefault(index, _Call())

    def message(self) -> Message:
        found = [part("reasoning", content=str(self.reasoning))] if self.reasoning else []
        if self.text:
            found.append(text(str(self.text)))
        if self.refusal:
            found.append(part("refusal", content=str(self.refusal)))
        if self.transcript:
            found.append(text(str(self.transcript)))
        if self.audio:
            found.append(part("blob", modality="audio", size=self.audio * 3 // 4))
        found += [
            tool_call(call.identity, call.name, str(call.arguments)) for call in self.calls.values()
        ]
        return {"role": self.role, "parts": found, "finish_reason": self.finish_reason}


class _Call:
    """One tool call: what came of it so far."""

    def __init__(self) -> None:
        self.identity: Any = None
        self.name: Any = None
        self.arguments = Pieces()

    def add(self, identity: Any, function: Any) -> None:
        self.identity = self.identity or identity
        self.name = self.name or get(function, "name")
        self.arguments.add(get(function, "arguments"))


def prompts(body: Mapping[str, Any]) -> list[Message]:
    """The prompts of a text completion: each is one message; tokens are counted, not shown."""
    given = body.get("prompt")
    if isinstance(given, list) and not (given and isinstance(given[0], int)):
        return [user(each) for each in given]
    return [] if given is None else [user(given)]


def user(given: Any) -> Message:
    """A message of the user: a text, parts, or tokens."""
    if isinstance(given, list) and given and isinstance(given[0], int):
        return {"role": "user", "parts": [part("tokens", count=len(given))]}
    return {"role": "user", "parts": parts(given)}


def completion_output(answer: Any) -> list[Message]:
    """The choices of a text completion."""
    return [
        {"role": "assistant", "parts": parts(get(choice, "text"))} | _finish(choice)
        for choice in listed(get(answer, "choices"))
    ]


class CompletionOutput(ChatOutput):
    """The choices of a streamed text completion, put together from its chunks."""

    def add(self, chunk: Any) -> None:
        """Take what one chunk brings."""
        for choice in listed(get(chunk, "choices")):
            state = self._choices.setdefault(number(get(choice, "index")), _Choice())
            state.text.add(get(choice, "text"))
            if (reason := get(choice, "finish_reason")) is not None:
                state.finish_reason = str(reason)
