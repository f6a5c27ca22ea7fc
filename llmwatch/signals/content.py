"""What was said to a model and what it answered, made fit to be recorded.

A source gives messages in the conventions' schema, or functions that make them; nothing is read
before the operation ends. Everything then passes one cleaner: no bytes, redacted, cut to size,
valid in every backend. `redact` sees each text before it is cut, for half a secret is hard to find;
if it fails, nothing of that operation's content is recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from llmwatch import semconv
from llmwatch._guard import Guard

if TYPE_CHECKING:
    from llmwatch.config import Config

Messages = list[dict[str, Any]]
Given = Messages | Callable[[], Messages | None] | None
"""Messages, parts or definitions; or a function that makes them when the operation ends."""

MOST_TEXT: Final = 1 << 20
"""Characters of one operation's content that are kept in all (or of one text, if that is more)."""
MOST_ITEMS: Final = 10_000
"""Values (messages, parts, arguments, …) of one operation's content that are kept."""
MOST_DEPTH: Final = 12
"""Containers inside containers that are kept, below a message's part."""
MOST_NUMBERS: Final = 64
"""A longer list of numbers is a vector or tokens: it is named, not walked."""

_READ = Guard("signals.content")
_CLEAN = Guard("redact")


class Content:
    """The content of one operation; made only where content is captured.

    A source sets the four attributes, any time before the end:

    * `input_messages`, `output_messages`: messages, ``{"role": …, "parts": [{"type": …}, …]}``;
      output messages have a ``finish_reason`` too.
    * `system_instructions`: parts.
    * `tool_definitions`: ``{"type": …, "name": …}``.

    Cost: about 10 µs a message of one short text, plus what `redact` takes.
    """

    __slots__ = (
        "_cleaned",
        "_config",
        "input_messages",
        "output_messages",
        "system_instructions",
        "tool_definitions",
    )

    def __init__(self, config: Config) -> None:
        self._config = config
        self._cleaned: dict[str, Any] | None = None
        self.input_messages: Given = None
        self.output_messages: Given = None
        self.system_instructions: Given = None
        self.tool_definitions: Given = None

    def for_event(self) -> dict[str, Any]:
        """Attributes of an event, structured, as the conventions demand there."""
        if self._cleaned is None:
            self._cleaned = {}  # what fails once is not tried again
            with _CLEAN:
                self._cleaned = self._clean()
        return self._cleaned

    def for_span(self) -> dict[str, str | bool]:
        """Attributes of a span: JSON strings.

        Not every SDK that llmwatch runs on takes nested values there, most backends show and search
        the string form only, and it is one value for the SDK to check instead of hundreds.
        """
        return {
            key: value if isinstance(value, bool) else _json(value)
            for key, value in self.for_event().items()
        }

    def _clean(self) -> dict[str, Any]:
        cleaner = _Cleaner(self._config)
        found = {
            # The answer first: should there be too much, it is the oldest messages that go.
            semconv.OUTPUT_MESSAGES: cleaner.newest(_read(self.output_messages), cleaner.message),
            semconv.SYSTEM_INSTRUCTIONS: cleaner.newest(
                _read(self.system_instructions), cleaner.part
            ),
            semconv.TOOL_DEFINITIONS: cleaner.newest(_read(self.tool_definitions), cleaner.part),
            semconv.INPUT_MESSAGES: cleaner.newest(_read(self.input_messages), cleaner.message),
        }
        kept: dict[str, Any] = {key: value for key, value in found.items() if value}
        if cleaner.truncated:
            kept[semconv.CONTENT_TRUNCATED] = True
        return kept


def clean_text(config: Config, text: str) -> str | None:
    """One text on its own, cleaned like all others; None where `redact` dropped it or failed."""
    with _CLEAN:
        return _Cleaner(config).text(text)
    return None


def _read(given: Given) -> Any:
    with _READ:
        made = given() if callable(given) else given
        return [] if made is None else made
    return []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class _Dropped:
    """Stands for what is left out."""


_DROPPED: Final = _Dropped()

_MESSAGE_WORDS = frozenset(("role", "parts", "finish_reason"))
_PART_WORDS = frozenset(("type", "id", "mime_type", "modality"))
_WORD = re.compile(r"[\w.:/+-]{1,256}")
"""Names and ids of the schema itself, which are no content."""


class _Cleaner:
    """Copies content, within the limits of one operation."""

    __slots__ = ("_items", "_left", "_limit", "_redact", "truncated")

    def __init__(self, config: Config) -> None:
        self._limit = config.content_limit
        self._redact = config.redact
        self._left = max(MOST_TEXT, config.content_limit)
        self._items = MOST_ITEMS
        self.truncated = False

    def newest(self, given: Any, clean: Callable[[Any], Any]) -> list[Any]:
        """Clean a list from its end, so that what finds no room is the oldest."""
        if not isinstance(given, (list, tuple)):
            given = [given]
        kept = [each for item in reversed(given) if (each := clean(item)) is not _DROPPED]
        kept.reverse()
        return kept

    def message(self, message: Any) -> Any:
        """One message: its role, its parts, and whatever else it says."""
        if not isinstance(message, Mapping):
            return self.value(message, 0)
        if not self._room():
            return _DROPPED
        return self._mapping(message, 0, _MESSAGE_WORDS)

    def part(self, part: Any) -> Any:
        """One part of a message, or one definition of a tool."""
        if not isinstance(part, Mapping):
            return self.value(part, 0)
        return self._mapping(part, 0, _PART_WORDS) if self._room() else _DROPPED

    def value(self, value: Any, depth: int) -> Any:
        """Anything: JSON-like values are copied, of all others only the type's name is told."""
        if isinstance(value, str):
            text = self.text(value)
            return _DROPPED if text is None else text
        if not self._room():
            return _DROPPED
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self._number(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"({len(value)} bytes)"
        if isinstance(value, (Mapping, list, tuple)) and depth < MOST_DEPTH:
            if isinstance(value, Mapping):
                return self._mapping(value, depth + 1, frozenset())
            return self._list(value, depth + 1)
        self.truncated = self.truncated or isinstance(value, (Mapping, list, tuple))
        return f"({type(value).__name__})"

    def _mapping(
        self, given: Mapping[Any, Any], depth: int, words: frozenset[str]
    ) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in given.items():
            if self._full:
                break
            if key in words:
                if isinstance(value, str) and _WORD.fullmatch(value):
                    kept[key] = value
                    continue
                if key == "parts" and isinstance(value, (list, tuple)):
                    kept[key] = [
                        each for part in value if (each := self.part(part)) is not _DROPPED
                    ]
                    continue
            # A key of the schema is no content, but one inside a tool's arguments may be.
            known = words and isinstance(key, str) and _WORD.fullmatch(key)
            name = key if known else self.text(str(key))
            cleaned = self.value(value, depth) if name is not None else _DROPPED
            if cleaned is not _DROPPED:
                kept[name or "(empty)"] = cleaned  # the SDK drops an empty key, and warns
        return kept

    def _list(self, given: list[Any] | tuple[Any, ...], depth: int) -> Any:
        if len(given) > MOST_NUMBERS and isinstance(given[0], (int, float)):
            return f"({len(given)} numbers)"
        kept = []
        for item in given:
            if self._full:
                break
            if (cleaned := self.value(item, depth)) is not _DROPPED:
                kept.append(cleaned)
        return kept

    def _number(self, number: int | float) -> Any:
        plain = abs(number) < 1 << 63 and isfinite(number)
        shown = str(number) if plain or isinstance(number, float) else hex(number)
        if plain and self._redact is None:
            return number
        # Redacted too, for a card's number may be no string. Beyond 64 bits OTLP fails the batch.
        text = self.text(shown)
        if text is None:
            return _DROPPED
        return number if plain and text == shown else text

    def text(self, text: str) -> str | None:
        """One text without bytes, redacted, then cut; None where `redact` dropped it.

        Raises:
            Exception: Whatever `redact` raises, and TypeError if it returns no string.
        """
        if not self._room():
            return None
        text = _without_bytes(text)
        if self._redact is not None:
            redacted = self._redact(text)
            if redacted is None:
                return None
            if not isinstance(redacted, str):
                raise TypeError(f"redact returned {type(redacted).__name__}, not a string or None")
            text = redacted
        if not text.isascii():  # a lone surrogate would fail the whole batch at export
            text = text.encode("utf-8", "replace").decode()
        if len(text) > (most := min(self._limit, self._left)):
            self.truncated = True
            text = text[:most]
        self._left -= len(text)
        return str.__str__(text)  # of a subclass, an enum for example, only the text

    @property
    def _full(self) -> bool:
        if self._items > 0 and self._left > 0:
            return False
        self.truncated = True
        return True

    def _room(self) -> bool:
        """Take room for one more value, if there is any."""
        if self._full:
            return False
        self._items -= 1
        return True


_DATA_URL = re.compile(r"data:([\w.+/-]*)(?:;[\w.=+-]+)*;base64,([\w+/=%-]*)", re.ASCII)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_RUN = 512
"""Characters of base64 in a row that no prose has."""
_BASE64 = re.compile(rf"(?<![\w+/-])[\w+/-]{{{_RUN},}}={{0,2}}", re.ASCII)
_MIXED = re.compile(r"(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=[^0-9]*[0-9])")


def _without_bytes(text: str) -> str:
    """Name the size of pictures and sound that were written into a text, in their place."""
    if "base64," in text:
        text = _DATA_URL.sub(
            lambda found: f"data:{found[1]};base64,({_size(found[2])} bytes)", text
        )
    if len(text) >= _RUN and _has_run(text):
        text = _BASE64.sub(_name_run, text)
    return text


def _has_run(text: str) -> bool:
    """True if there is a long run of base64; it must cover one of few places, so look there."""
    for place in range(0, len(text), _RUN):
        before, after = text[max(place - _RUN, 0) : place], text[place : place + _RUN]
        run = len(before) - len(before.rstrip(_ALPHABET))
        run += len(after) - len(after.lstrip(_ALPHABET))
        if run >= _RUN:
            return True
    return False


def _name_run(found: re.Match[str]) -> str:
    run = found[0]
    return f"(base64, {_size(run)} bytes)" if _MIXED.match(run) else run


def _size(encoded: str) -> int:
    return len(encoded.rstrip("=")) * 3 // 4
