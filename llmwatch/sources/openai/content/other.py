"""What is no conversation: embeddings, moderations, images, sound, decisions, runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch.sources.openai.content import chat, responses
from llmwatch.sources.openai.content.parts import (
    Message,
    Part,
    Pieces,
    blob,
    listed,
    media,
    part,
    parts,
    plain,
    text,
    tool_call,
)
from llmwatch.sources.openai.response import get


def inputs(body: Mapping[str, Any]) -> list[Message]:
    """The ``input`` of embeddings and moderations: texts, parts, or tokens, in one message."""
    given = body.get("input")
    if not isinstance(given, list) or (given and isinstance(given[0], int)):
        return [] if given is None else [chat.user(given)]
    return [{"role": "user", "parts": [each for item in given for each in _input(item)]}]


def _input(given: Any) -> list[Part]:
    if isinstance(given, list):
        return chat.user(given)["parts"]  # type: ignore[no-any-return]
    return parts([given])


def prompt(body: Mapping[str, Any]) -> list[Message]:
    """What pictures, films, speech or a transcript are made from, as far as it is text."""
    given = body.get("prompt") or body.get("input")
    return [chat.user(given)] if isinstance(given, str) else []


def decision(body: Mapping[str, Any]) -> list[Message]:
    """What is decided about, and the questions."""
    asked = [part("question") | {"question": plain(each)} for each in listed(body.get("questions"))]
    return [*responses.messages(body.get("input")), {"role": "user", "parts": asked}]


def thread(body: Mapping[str, Any]) -> list[Message]:
    """The messages that come with an assistant's run, and the outcomes of its calls."""
    given = listed(get(body.get("thread"), "messages") or body.get("additional_messages"))
    outcomes = [
        {"role": "tool", "tool_call_id": get(each, "tool_call_id"), "content": get(each, "output")}
        for each in listed(body.get("tool_outputs"))
    ]
    return [chat.message(each) for each in (*given, *outcomes)]


def answered(found: list[Part], reason: str = "stop") -> list[Message]:
    """One message of the model, if it says anything."""
    return [{"role": "assistant", "parts": found, "finish_reason": reason}] if found else []


def images(answer: Any) -> list[Message]:
    """Pictures: each is a generation of its own; where they are, or their size."""
    mime_type = _mime_type(answer)
    found = []
    for image in listed(get(answer, "data")):
        said = parts(get(image, "revised_prompt"))
        if (data := get(image, "b64_json")) is not None:
            said.append(blob(data, "image", mime_type))
        elif (url := get(image, "url")) is not None:
            said.append(media(url, "image"))
        found += answered(said)
    return found


def _mime_type(answer: Any) -> str | None:
    kind = get(answer, "output_format")
    return f"image/{kind}" if isinstance(kind, str) else None


def transcript(answer: Any) -> list[Message]:
    """The text of a transcription or translation, whatever format was asked for."""
    said = answer if isinstance(answer, str) else get(answer, "text")
    return answered([text(said)]) if isinstance(said, str) else []


def decided(answer: Any) -> list[Message]:
    """The answers to the questions."""
    return answered([_answer(each) for each in listed(get(answer, "answers"))])


def _answer(given: Any) -> Part:
    said, kind = plain(given), get(given, "type")
    fields = said if isinstance(said, dict) else {}
    return fields | part(kind if isinstance(kind, str) else "answer")


def run(answer: Any) -> list[Message]:
    """The calls that an assistant's run waits for; its messages are in the thread."""
    wanted = get(get(answer, "required_action"), "submit_tool_outputs")
    found = []
    for call in listed(get(wanted, "tool_calls")):
        function = get(call, "function")
        found.append(tool_call(get(call, "id"), get(function, "name"), get(function, "arguments")))
    return answered(found, "tool_calls")


class EventsOutput:
    """Streamed pictures and transcripts: the last event tells all, else the pieces do."""

    def __init__(self) -> None:
        self._images: list[Part] = []
        self._pieces = Pieces()
        self._text: str | None = None

    def add(self, event: Any) -> None:
        """Take what one event brings."""
        kind = str(get(event, "type"))
        if kind.startswith("image_") and kind.endswith(".completed"):
            self._images.append(blob(get(event, "b64_json"), "image", _mime_type(event)))
        elif kind == "transcript.text.delta":
            self._pieces.add(get(event, "delta"))
        elif kind == "transcript.text.done":
            self._text = get(event, "text")

    def messages(self) -> list[Message]:
        """What came so far."""
        found = [message for image in self._images for message in answered([image])]
        if isinstance(self._text, str):
            return found + answered([text(self._text)])
        return found + (answered([text(str(self._pieces))], "error") if self._pieces else [])


class RunOutput:
    """The messages of a streamed run of an assistant."""

    def __init__(self) -> None:
        self._pieces: dict[str, Pieces] = {}
        self._done: dict[str, Any] = {}
        self._run: Any = None

    def add(self, event: Any) -> None:
        """Take what one event brings."""
        kind, data = get(event, "event"), get(event, "data")
        if kind == "thread.message.delta":
            pieces = self._pieces.setdefault(str(get(data, "id")), Pieces())
            for block in listed(get(get(data, "delta"), "content")):
                pieces.add(get(get(block, "text"), "value"))
        elif kind == "thread.message.completed":
            self._done[str(get(data, "id"))] = data
        elif kind == "thread.run.requires_action":
            self._run = data

    def messages(self) -> list[Message]:
        """What came so far."""
        found = []
        for identity in dict.fromkeys((*self._pieces, *self._done)):
            if (whole := self._done.get(identity)) is not None:
                found += answered(parts(get(whole, "content")))
            else:
                found += answered([text(str(self._pieces[identity]))], "error")
        return found + run(self._run)
