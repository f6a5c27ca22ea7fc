"""Learn from the chunks of a stream while they pass: as little as possible for each.

A reader is made for one operation. It returns early for the common chunk (more text) and looks
closely only at those that tell something: the first, a finish reason, a tool call, usage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from llmwatch import semconv
from llmwatch.signals.operation import Operation
from llmwatch.sources.openai.response import (
    READERS,
    get,
    note_failure,
    read_responses,
    read_usage,
    tool_call_name,
)
from llmwatch.sources.openai.routes import Shape

Reader = Callable[[Any], Any]
"""See `llmwatch.signals.streams.Read`."""

TAIL = 8
"""Chunks kept for the end: the last text, the finish reason, usage, and what servers add."""


def reader_for(shape: Shape, operation: Operation, *, eventful: bool = True) -> Reader:
    """The reader for a stream of this shape; its summary is the operation's `reader`.

    Args:
        shape: How the chunks look.
        operation: Where to write what they tell.
        eventful: False where, by the request, text cannot be interrupted by anything else: one
            choice and no tools.
    """
    if shape == "chat":
        return _chat(operation, eventful)
    if shape == "completions":
        return _completions(operation)
    return _events(shape, operation)


def _chat(operation: Operation, eventful: bool) -> Reader:
    """Read closely until text flows, then keep only the last few chunks for the end.

    Where tools were offered or several choices asked for, any chunk may tell something: all are
    looked at, plain text only briefly.
    """
    timeline = operation.timeline or operation.stream()
    got = timeline.got
    seen = _Choices()
    operation.reader = seen.write
    if not eventful:
        keep = seen.tail.append
        return lambda chunk: keep if seen.look(operation, chunk, len(got) - 1) else None
    flowing = False

    def read(chunk: Any) -> None:
        nonlocal flowing
        if not (flowing and _only_text(chunk)):
            flowing = seen.look(operation, chunk, len(got) - 1)

    return read


def _only_text(chunk: Any) -> bool:
    """True for the common chunk, which tells nothing new: one choice, more text, not the end."""
    try:
        (choice,) = chunk.choices
        return bool(choice.delta.content) and choice.finish_reason is None
    except (AttributeError, TypeError, ValueError):
        return False


class _Choices:
    """What the chunks of one streamed chat completion say besides their text.

    It holds no operation: the operation holds it, and a cycle would keep a dropped stream alive.
    """

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self.refused = False
        self.tools: list[str] = []
        self.quiet: list[int] = []
        """Indices of chunks without output."""
        self.tail: deque[Any] = deque(maxlen=TAIL)

    def look(self, operation: Operation, chunk: Any, index: int) -> bool:
        """Read one chunk closely; True once plain text flows."""
        timeline = operation.timeline
        assert timeline is not None
        if operation.response_id is None:
            _identify(operation, chunk)
        if (usage := get(chunk, "usage")) is not None:
            operation.usage = read_usage(usage)
        kinds = {self._read_choice(choice) for choice in get(chunk, "choices") or ()}
        if "text" in kinds or "call" in kinds:
            if timeline.first_output is None:
                timeline.first_output = index
        elif "reasoning" in kinds:
            if timeline.first_reasoning is None:
                timeline.first_reasoning = index
        else:
            self.quiet.append(index)
        return "text" in kinds

    def note_reason(self, choice: Any) -> None:
        """Note why a choice ended, if it did."""
        if (reason := get(choice, "finish_reason")) is not None:
            index = get(choice, "index")
            self.reasons[index if isinstance(index, int) else 0] = str(reason)

    def _read_choice(self, choice: Any) -> str | None:
        """Note what one choice of a chunk tells, and say what it brings."""
        self.note_reason(choice)
        delta = get(choice, "delta")
        calls = get(delta, "tool_calls") or ()
        self.tools += [name for call in calls if (name := tool_call_name(call)) is not None]
        if get(delta, "refusal"):
            self.refused = True
            return "text"
        if get(delta, "content") or get(delta, "audio"):
            return "text"
        if calls:
            return "call"
        if get(delta, "reasoning_content") or get(delta, "reasoning"):
            return "reasoning"
        return None

    def write(self, operation: Operation) -> None:
        """Write what was seen on the operation."""
        if operation.timeline is not None:
            after_text = self._after_text()
            first = len(operation.timeline.got) - len(after_text)
            for index, chunk in enumerate(after_text, first):
                self.look(operation, chunk, index)
        operation.refused = self.refused
        if self.reasons:
            operation.finish_reasons = [self.reasons[index] for index in sorted(self.reasons)]
        if self.tools:
            operation.attributes[semconv.TOOLS_CALLED] = self.tools
        if operation.timeline is not None:
            operation.timeline.last_output = last_loud(len(operation.timeline.got), self.quiet)
            operation.timeline.quiet = len(self.quiet)

    def _after_text(self) -> list[Any]:
        """The chunks of the tail that may tell something: those after the last plain text."""
        found: list[Any] = []
        for chunk in reversed(self.tail):
            if _only_text(chunk) and get(chunk, "usage") is None:
                break
            found.append(chunk)
        found.reverse()
        return found


def last_loud(count: int, quiet: list[int]) -> int | None:
    """Index of the last of *count* chunks that is not in *quiet*, which ascends."""
    last = count - 1
    for index in reversed(quiet):
        if index != last:
            break
        last -= 1
    return last if last >= 0 else None


def _completions(operation: Operation) -> Reader:
    timeline = operation.timeline or operation.stream()
    got = timeline.got
    choices_seen = _Choices()

    def read(chunk: Any) -> None:
        if operation.response_id is None:
            _identify(operation, chunk)
        if (usage := get(chunk, "usage")) is not None:
            operation.usage = read_usage(usage)
        loud = False
        for choice in get(chunk, "choices") or ():
            loud = loud or bool(get(choice, "text"))
            choices_seen.note_reason(choice)
        if not loud:
            choices_seen.quiet.append(len(got) - 1)
        elif timeline.first_output is None:
            timeline.first_output = len(got) - 1

    operation.reader = choices_seen.write
    return read


_REASONING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_TERMINAL = frozenset(
    ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
)


def _events(shape: Shape, operation: Operation) -> Reader:
    """Streams of typed events: responses, assistants' runs, images, audio."""
    timeline = operation.timeline or operation.stream()
    got, silent = timeline.got, timeline.silent
    named, otherwise = ("event", "type") if shape == "run" else ("type", "event")
    known: set[str] = set()
    """Kinds of output that were seen before: there is nothing more to learn from them."""

    def read(event: Any) -> None:
        # `getattr` is what `get` comes to for the client's own objects, and quicker.
        kind = getattr(event, named, None) or get(event, named) or get(event, otherwise) or ""
        if kind in known:
            return
        if kind.endswith(".delta") or "partial_image" in kind:
            known.add(kind)
            if kind in _REASONING:
                if timeline.first_reasoning is None:
                    timeline.first_reasoning = len(got) - 1
            elif timeline.first_output is None:
                timeline.first_output = len(got) - 1
            return
        silent.append(len(got) - 1)
        _look_at_event(shape, operation, event, kind)

    return read


def _look_at_event(shape: Shape, operation: Operation, event: Any, kind: str) -> None:
    if shape == "responses":
        response = get(event, "response")
        if kind in _TERMINAL:
            read_responses(operation, response)
        elif kind == "response.created":
            _identify(operation, response)
        elif kind == "error":
            note_failure(operation, get(event, "code") or get(get(event, "error"), "code"), "error")
    elif shape == "run":
        if kind.startswith("thread.run.") and ".step." not in kind:
            READERS["run"](operation, get(event, "data"))
    elif (usage := read_usage(get(event, "usage") or get(get(event, "turn"), "usage"))) is not None:
        operation.usage = usage


def _identify(operation: Operation, answer: Any) -> None:
    if isinstance(identity := get(answer, "id"), str):
        operation.response_id = identity
    if isinstance(model := get(answer, "model"), str):
        operation.response_model = model
    if isinstance(tier := get(answer, "service_tier"), str):
        operation.attributes[semconv.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if isinstance(fingerprint := get(answer, "system_fingerprint"), str):
        operation.attributes[semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
