"""Parts of messages: what the API's many forms of text, pictures, sound, files and calls become.

The conventions' schema, with one difference: a part of type ``blob`` has a size in bytes, and never
the bytes. Everything the API says may be missing or of another type than it promises.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from llmwatch.sources.openai.response import get

Part = dict[str, Any]
Message = dict[str, Any]

MOST_JSON: Final = 1 << 20
"""Characters of a tool's arguments that are parsed; longer ones stay one text."""
_DEEPEST: Final = 8


def listed(given: Any) -> Sequence[Any]:
    """A list of the API's; empty where it is something else, an iterator of the user's perhaps."""
    return given if isinstance(given, (list, tuple)) else ()


def number(index: Any) -> int:
    """A place in a list; 0 where a server gives none."""
    return index if isinstance(index, int) else 0


def part(kind: str, **fields: Any) -> Part:
    """A part of type *kind*, without the fields that are None."""
    return {"type": kind} | {key: value for key, value in fields.items() if value is not None}


def text(content: str) -> Part:
    """Text that the model read or wrote."""
    return {"type": "text", "content": content}


def tool_call(identity: Any, name: Any, arguments: Any) -> Part:
    """A call that the model asks its client to make."""
    return part("tool_call", id=identity, name=name or "", arguments=from_json(arguments))


def tool_response(identity: Any, response: Any) -> Part:
    """What such a call returned: text, or a list of parts."""
    if isinstance(response, (list, tuple)):
        response = parts(response)
    return part("tool_call_response", id=identity) | {"response": plain(response)}


def from_json(arguments: Any) -> Any:
    """Arguments as a structure where they are JSON; models write broken JSON too."""
    if not isinstance(arguments, str):
        return plain(arguments)
    if len(arguments) <= MOST_JSON and arguments.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            pass
    return arguments


def blob(data: Any, modality: str, mime_type: str | None = None) -> Part:
    """Data in base64 that went with the message: its size."""
    return part("blob", modality=modality, mime_type=mime_type, size=_size(data))


def media(url: Any, modality: str) -> Part:
    """Something at a URL; a data URL is the thing itself."""
    if not isinstance(url, str):
        return part("uri", modality=modality)
    if not url.startswith("data:"):
        return part("uri", modality=modality, uri=url)
    head, _, data = url.partition(",")
    mime_type = head[len("data:") :].partition(";")[0]
    if not head.endswith(";base64"):
        return part("blob", modality=modality, mime_type=mime_type or None, size=len(data))
    return blob(data, modality, mime_type or None)


def file(identity: Any, modality: str) -> Part:
    """A file that the server has."""
    return part("file", modality=modality, file_id=identity)


def _size(data: Any) -> int | None:
    if isinstance(data, str):
        return (len(data) - data[-2:].count("=")) * 3 // 4
    return len(data) if isinstance(data, (bytes, bytearray)) else None


def parts(content: Any) -> list[Part]:
    """The parts of a message's content: a string, or a list of the API's parts."""
    if content is None:
        return []
    if isinstance(content, str):
        return [text(content)]
    if isinstance(content, (list, tuple)):
        return [_part(each) for each in content]
    return [part(type(content).__name__)]


def _part(given: Any) -> Part:
    if isinstance(given, str):
        return text(given)
    kind = get(given, "type")
    if not isinstance(kind, str):
        return part(type(given).__name__)
    read = _READERS.get(kind)
    return part(kind) if read is None else read(given)


def _text(given: Any) -> Part:
    content = get(given, "text")
    if not isinstance(content, (str, type(None))):
        content = get(content, "value")  # assistants wrap it
    return text(content if isinstance(content, str) else "")


def _reasoning(given: Any) -> Part:
    return part("reasoning", content=get(given, "text"))


def _refusal(given: Any) -> Part:
    return part("refusal", content=get(given, "refusal"))


def _image(given: Any) -> Part:
    url = get(given, "image_url")
    if url is None and (identity := get(given, "file_id")) is not None:
        return file(identity, "image")
    return media(url if isinstance(url, str) else get(url, "url"), "image")


def _image_file(given: Any) -> Part:
    return file(get(get(given, "image_file"), "file_id"), "image")


def _audio(given: Any) -> Part:
    if isinstance(transcript := get(given, "transcript"), str):
        return text(transcript)
    inner = get(given, "input_audio") or given
    kind = get(inner, "format")
    mime_type = f"audio/{kind}" if isinstance(kind, str) else None
    return blob(get(inner, "data") or get(inner, "audio"), "audio", mime_type)


def _file(given: Any) -> Part:
    inner = get(given, "file") or given
    name = part("", name=get(inner, "filename"))
    del name["type"]
    if (identity := get(inner, "file_id")) is not None:
        return file(identity, "document") | name
    if (url := get(inner, "file_url")) is not None:
        return media(url, "document") | name
    data = get(inner, "file_data")
    if isinstance(data, str) and data.startswith("data:"):
        return media(data, "document") | name
    return blob(data, "document") | name


_READERS: dict[str, Callable[[Any], Part]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "summary_text": _reasoning,
    "reasoning_text": _reasoning,
    "refusal": _refusal,
    "image_url": _image,
    "input_image": _image,
    "computer_screenshot": _image,
    "image_file": _image_file,
    "audio": _audio,
    "input_audio": _audio,
    "output_audio": _audio,
    "file": _file,
    "input_file": _file,
}


def plain(value: Any, depth: int = 0) -> Any:
    """Dicts and lists instead of the client's objects, which warn when they are dumped."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if depth >= _DEEPEST:
        return f"({type(value).__name__})"
    if isinstance(value, (list, tuple)):
        return [plain(each, depth + 1) for each in value]
    if not isinstance(value, Mapping):
        extra = getattr(value, "__pydantic_extra__", _NOTHING)
        if extra is _NOTHING:
            return value
        value = vars(value) | (extra or {})
    return {key: plain(each, depth + 1) for key, each in value.items() if each is not None}


_NOTHING: Final = object()


class Pieces:
    """Text that comes in pieces; more than anybody may record is not kept."""

    __slots__ = ("_pieces", "_room")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._room = MOST_TEXT

    def add(self, piece: Any) -> None:
        """Keep one more piece, if it is text."""
        if self._room > 0 and isinstance(piece, str):
            self._pieces.append(piece)
            self._room -= len(piece)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __str__(self) -> str:
        return "".join(self._pieces)


MOST_TEXT: Final = 10_000_001
"""Characters: one more than the setting ``content_limit`` can be, so that a cut is seen as one."""
