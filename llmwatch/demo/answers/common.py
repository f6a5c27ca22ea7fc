"""What the answers have in common: the call, prose cut in tokens, tokens counted, errors.

A token here is a word or a punctuation mark: true enough for usage to be exact and predictable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from itertools import count, cycle, islice
from time import time
from typing import Any

from llmwatch.demo.script import Script
from llmwatch.demo.wire import Answer, Event, Exchange

JSON = dict[str, Any]

PROSE = (
    "Rain fell softly on the harbour while the last ferry drew a silver line across the bay, and "
    "the lamps came on one by one along the quay. Nobody hurried. The evening had all the time it "
    "needed, and the sea, which had listened all day, at last began to answer."
)
THOUGHT = "They ask for a scene, so I look for a place, a light and a sound, then order them."

_SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "o4-mini": "o4-mini-2025-04-16",
    "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct:20230824-v2",
}
_numbers = count(1)


class Store:
    """Objects that outlive a request: background responses, videos, threads, runs.

    Each is a list of states; fetching one moves it on by one state, until the last.
    """

    def __init__(self) -> None:
        self._states: dict[str, list[JSON]] = {}

    def put(self, *states: JSON) -> JSON:
        """Keep an object by its ``id``, and return its first state."""
        self._states[states[0]["id"]] = list(states)
        return states[0]

    def get(self, key: str) -> JSON | None:
        """The next state of an object, or None."""
        states = self._states.get(key)
        if states is None:
            return None
        if len(states) > 1:
            states.pop(0)
        return states[0]

    def last(self, key: str) -> JSON | None:
        """The state that an object ends in, or None."""
        states = self._states.get(key)
        return states[-1] if states else None

    def drop(self, key: str) -> None:
        """Forget an object."""
        self._states.pop(key, None)


@dataclass
class Call:
    """One request on its way to an answer."""

    exchange: Exchange
    script: Script
    store: Store
    path: tuple[str, ...] = ()
    """The variable parts of the path."""
    deployment: str | None = None
    """Set for Azure: the model, from the path."""
    body: JSON = field(init=False)

    def __post_init__(self) -> None:
        content_type = self.exchange.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            self.body = _form(content_type, self.exchange.body)
        else:
            self.body = json.loads(self.exchange.body) if self.exchange.body else {}

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for (a form says it in text)."""
        return self.body.get("stream") in (True, "true", "True")

    @property
    def model(self) -> str:
        """The exact model that answers: a dated snapshot where the API would name one."""
        model: str = self.body.get("model") or self.deployment or "gpt-4o-mini"
        return _SNAPSHOTS.get(model, model)

    def pieces(self, schema: JSON | None = None) -> list[str]:
        """The output text, a token each; ``"".join`` gives the whole."""
        if self.script.text is not None:
            return words(self.script.text)
        if schema is not None:
            return words(json.dumps(instance(schema)))
        return list(islice(cycle(words(PROSE)), self.script.chunks))

    def thoughts(self) -> list[str]:
        """The reasoning, a token each."""
        return list(islice(cycle(words(THOUGHT)), self.script.reasoning))


def _form(content_type: str, body: bytes) -> JSON:
    """The fields of a multipart form; of files only their size in bytes."""
    head = f"content-type: {content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=HTTP)
    found: JSON = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found[str(name)] = len(content) if part.get_filename() else content.decode()
    return found


def words(text: str) -> list[str]:
    """Cut *text* into pieces that begin with a space, as tokens do; nothing is lost."""
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+$", text)


def tokens(value: object) -> int:
    """Count the tokens of all text in a JSON value; images and audio count nothing."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(re.findall(r"\w+|[^\w\s]", value))
    if isinstance(value, Mapping):
        return sum(tokens(each) for each in value.values())
    return sum(tokens(each) for each in value) if isinstance(value, list) else 0


def instance(schema: JSON, definitions: JSON | None = None) -> Any:
    """A small value that a JSON schema admits."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return instance(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance(schema[key][0], definitions)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        fields = schema.get("properties", {}).items()
        return {name: instance(each, definitions) for name, each in fields}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), definitions)]
    return {"string": "harbour", "integer": 7, "number": 0.5, "boolean": True}.get(kind)


def called(call: Call) -> list[JSON]:
    """The functions that the model decides to call: as scripted, or one where it must.

    Each is its name and, as JSON text, arguments that its schema admits.
    """
    tools = call.body.get("tools") or []
    offered = [
        {"name": each["name"], "arguments": json.dumps(instance(each.get("parameters") or {}))}
        for each in (tool.get("function", tool) for tool in tools if tool["type"] == "function")
    ]
    must = call.body.get("tool_choice") not in (None, "auto", "none")
    number = call.script.tool_calls or int(must)
    return list(islice(cycle(offered), number)) if offered else []


def detailed_usage(call: Call, used: int, made: int) -> JSON:
    """Usage in the words of the newer endpoints."""
    cached = {"cached_tokens": call.script.cached_tokens, "cache_write_tokens": 0}
    return {
        "input_tokens": used,
        "input_tokens_details": cached,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": call.script.reasoning},
        "total_tokens": used + made,
    }


def new_id(prefix: str) -> str:
    """An id that looks like the API's, unique in this process."""
    return f"{prefix}{next(_numbers):024x}"


def now() -> int:
    """Unix time in whole seconds, as the API reports it."""
    return int(time())


def reply(body: JSON, *headers: tuple[str, str], status: int = 200) -> Answer:
    """Answer with a JSON body."""
    return Answer(json.dumps(body).encode(), status=status, headers=headers)


def events(source: Iterator[Event], *errors: bytes) -> Answer:
    """Answer with a stream of server-sent events."""
    kind = "text/event-stream; charset=utf-8"
    return Answer(events=source, content_type=kind, error_events=errors)


def data(body: JSON, *, output: bool = False) -> Event:
    """An event that has only data."""
    return Event(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n", output)


def named(name: str, body: JSON, *, output: bool = False) -> Event:
    """An event with a name."""
    payload = json.dumps(body, separators=(",", ":"))
    return Event(f"event: {name}\ndata: {payload}\n\n".encode(), output)


DONE = Event(b"data: [DONE]\n\n")


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> JSON:
    """The body of an error answer."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


SERVER_ERROR = error_body(
    "The server had an error while processing your request. Sorry about that!", "server_error"
)
"""What the API says when it breaks, before or inside a stream."""


def not_found(what: str, key: str) -> Answer:
    """Answer that an object does not exist."""
    message = f"{what} with id '{key}' not found."
    return reply(error_body(message, "invalid_request_error"), status=404)
