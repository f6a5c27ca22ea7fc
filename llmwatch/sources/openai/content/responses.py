"""The Responses API: items of many kinds, of which some are messages and others calls.

All that comes back is one generation, so it is one message; what goes in is a message an item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llmwatch.sources.openai.content.parts import (
    Message,
    Part,
    Pieces,
    blob,
    from_json,
    listed,
    number,
    part,
    parts,
    plain,
    text,
    tool_call,
    tool_response,
)
from llmwatch.sources.openai.response import get


def messages(given: Any) -> list[Message]:
    """The ``input`` of a request: a text, or items."""
    if isinstance(given, str):
        return [{"role": "user", "parts": [text(given)]}]
    return [_message(item) for item in listed(given)]


def _message(item: Any) -> Message:
    kind, role = get(item, "type"), get(item, "role")
    if not isinstance(role, str):
        outcome = isinstance(kind, str) and kind.endswith("_output")
        role = "tool" if outcome else "assistant"
    return {"role": role, "parts": item_parts(item)}


def item_parts(item: Any) -> list[Part]:
    """The parts that one item becomes; of an unknown kind, only its name."""
    kind = get(item, "type")
    if kind is None or kind == "message":
        return parts(get(item, "content"))
    if not isinstance(kind, str):
        return [part(type(kind).__name__)]
    if (read := _ITEMS.get(kind)) is not None:
        return read(item)
    if kind in _CLIENT_CALLS:
        call = plain(get(item, _CLIENT_CALLS[kind]))
        if isinstance(call, dict):
            call.pop("env", None)  # variables of an environment are where secrets live
        return [tool_call(_identity(item), kind.removesuffix("_call"), call)]
    if kind.endswith("_output"):
        return [tool_response(_identity(item), _outcome(get(item, "output")))]
    if kind.endswith("_call"):
        return _server_call(kind.removesuffix("_call"), item)
    return [part(kind, id=get(item, "id"))]


def _identity(item: Any) -> Any:
    return get(item, "call_id") or get(item, "id")


def _outcome(given: Any) -> Any:
    """The outcome of a call: text, or a list of parts; a screenshot is a part by itself."""
    return [given] if get(given, "type") == "computer_screenshot" else given


def _reasoning(item: Any) -> list[Part]:
    # The full text where it is there, else its summary; what is encrypted is neither.
    said = get(item, "content") or get(item, "summary")
    return [part("reasoning", content=get(each, "text")) for each in listed(said)]


def _function_call(item: Any) -> list[Part]:
    return [tool_call(_identity(item), get(item, "name"), get(item, "arguments"))]


def _custom_call(item: Any) -> list[Part]:
    return [tool_call(_identity(item), get(item, "name"), get(item, "input"))]


def _mcp_call(item: Any) -> list[Part]:
    name, identity = get(item, "name"), get(item, "id")
    call = part(
        "mcp", server_label=get(item, "server_label"), arguments=from_json(get(item, "arguments"))
    )
    found = [part("server_tool_call", id=identity, name=name or "mcp", server_tool_call=call)]
    outcome = part("mcp", output=get(item, "output"), error=plain(get(item, "error")))
    return found + _server_response(identity, outcome)


def _image_call(item: Any) -> list[Part]:
    call = part("image_generation", revised_prompt=get(item, "revised_prompt"))
    identity = get(item, "id")
    found = [part("server_tool_call", id=identity, name="image_generation", server_tool_call=call)]
    if (result := get(item, "result")) is not None:
        image = blob(result, "image", _mime_type(get(item, "output_format")))
        found += _server_response(identity, part("image_generation", image=image))
    return found


def _mime_type(output_format: Any) -> str:
    return f"image/{output_format}" if isinstance(output_format, str) else "image/png"


_CALL_FIELDS = ("action", "queries", "code", "container_id", "arguments")
_OUTCOME_FIELDS = ("results", "outputs")


def _server_call(name: str, item: Any) -> list[Part]:
    """A tool that the server ran by itself: how it was called, and what came out."""
    identity = get(item, "id")
    call, outcome = (
        part(name, **{field: plain(get(item, field)) for field in fields})
        for fields in (_CALL_FIELDS, _OUTCOME_FIELDS)
    )
    found = [part("server_tool_call", id=identity, name=name, server_tool_call=call)]
    return found + _server_response(identity, outcome)


def _server_response(identity: Any, outcome: Part) -> list[Part]:
    if len(outcome) == 1:
        return []  # nothing but its type
    return [part("server_tool_call_response", id=identity, server_tool_call_response=outcome)]


_ITEMS: dict[str, Callable[[Any], list[Part]]] = {
    "reasoning": _reasoning,
    "function_call": _function_call,
    "custom_tool_call": _custom_call,
    "mcp_call": _mcp_call,
    "image_generation_call": _image_call,
}
_CLIENT_CALLS = {
    "apply_patch_call": "operation",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
}
"""Calls of tools that the client runs, and where they say what to do."""


def output(answer: Any) -> list[Message]:
    """What a response says, as one message; empty where nothing came."""
    items = listed(get(answer, "output"))
    return _one(items, finish_reason(answer)) if items else []


def _one(items: Iterable[Any], reason: str) -> list[Message]:
    found = [each for item in items for each in item_parts(item)]
    return [{"role": "assistant", "parts": found, "finish_reason": reason}]


def finish_reason(answer: Any) -> str:
    """Why a response ended, in the words of chat completions where they have one."""
    status = get(answer, "status")
    if status == "completed" or status is None:
        kinds = [get(item, "type") for item in listed(get(answer, "output"))]
        return "tool_calls" if "function_call" in kinds or "custom_tool_call" in kinds else "stop"
    if status == "incomplete":
        reason = get(get(answer, "incomplete_details"), "reason")
        return reason if isinstance(reason, str) else "incomplete"
    return "cancelled" if status == "cancelled" else "error"


_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "summary",
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
    "response.audio.transcript.delta": "text",
    "response.output_audio_transcript.delta": "text",
}
"""Events that bring a piece of an item, and what of it."""


class ResponsesOutput:
    """What a streamed response says: its last event tells all, else the pieces do."""

    def __init__(self) -> None:
        self._answer: Any = None
        self._items: dict[int, _Item] = {}
        self._known: dict[tuple[Any, ...], Pieces] = {}
        """Where further pieces of a text go."""

    def add(self, event: Any) -> None:
        """Take what one event brings.

        Cost: about 1 µs for one more piece of a text, 5 µs for anything else.
        """
        try:
            key = (event.type, event.output_index, event.content_index)
            self._known[key].add(event.delta)
            return
        except (AttributeError, KeyError, TypeError):
            pass  # the first piece, something else, or not an object of the client
        kind = str(get(event, "type"))
        if (field := _DELTAS.get(kind)) is not None:
            pieces = self._item(event).add(field, event)
            if isinstance(index := get(event, "content_index"), int):
                self._known[kind, number(get(event, "output_index")), index] = pieces
        elif kind in ("response.output_item.added", "response.output_item.done"):
            item = self._item(event)
            item.given = get(event, "item")
            item.done = kind == "response.output_item.done"
        elif kind in _LAST:
            self._answer = get(event, "response")

    def _item(self, event: Any) -> _Item:
        index = number(get(event, "output_index"))
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
        return item

    def messages(self) -> list[Message]:
        """What came so far, as one message; empty where nothing came."""
        if self._answer is not None and (whole := output(self._answer)):
            return whole
        found = [self._items[index].made() for index in sorted(self._items)]
        reason = "error" if self._answer is None else finish_reason(self._answer)
        return _one(found, reason) if found else []


_LAST = frozenset(
    f"response.{each}" for each in ("completed", "done", "failed", "incomplete", "cancelled")
)


class _Item:
    """One item of a streamed response: what came of it so far."""

    def __init__(self) -> None:
        self.given: Any = None
        self.done = False
        self.pieces: dict[tuple[str, int], Pieces] = {}

    def add(self, field: str, event: Any) -> Pieces:
        index = get(event, "summary_index" if field == "summary" else "content_index")
        place = (field, number(index))
        pieces = self.pieces.get(place)
        if pieces is None:
            pieces = self.pieces[place] = Pieces()
        pieces.add(get(event, "delta"))
        return pieces

    def made(self) -> Any:
        """The item as the API would have sent it."""
        if self.done or not self.pieces:
            return self.given
        kinds = [kind for kind, _ in self.pieces]
        said = [(kind, str(pieces)) for (kind, _), pieces in self.pieces.items()]
        if kinds[0] in ("arguments", "input", "code"):
            known = {
                name: get(self.given, name)
                for name in ("type", "id", "call_id", "name", "server_label")
            }
            return {**known, **dict(said)}
        if kinds[0] in ("reasoning", "summary"):
            key = "content" if "reasoning" in kinds else "summary"
            return {"type": "reasoning", key: [{"text": each} for _, each in said]}
        return {
            "type": "message",
            "content": [
                {"type": "refusal", "refusal": each}
                if kind == "refusal"
                else {"type": "output_text", "text": each}
                for kind, each in said
            ],
        }
