"""What a pipeline knows of a generation, and ``generate`` does not.

``generate`` is handed token ids; whoever calls it has the messages, knows whether they are a chat,
and which task it does. They `ask` for the length of the call, and the operation that ``generate``
opens there takes what it was `told`: there is one operation, never two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from llmwatch.signals.operation import Operation


@dataclass(slots=True)
class Asked:
    """What is known of the next generation."""

    name: str
    """``gen_ai.operation.name``: chat, text_completion, …"""
    attributes: Mapping[str, Any]
    """Further attributes for the start of its span, by full name."""
    describe: Callable[[Operation, Any], None] | None = None
    """Called with the operation and what ``generate`` returned, before it ends; it writes the
    content. None where none is captured."""
    taken: bool = False
    """Whether a generation has asked for it."""


_asked: ContextVar[Asked | None] = ContextVar("llmwatch-asked", default=None)


@contextmanager
def ask(asked: Asked) -> Iterator[None]:
    """Let the generation inside the block be called what *asked* says."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def told() -> Asked | None:
    """What is known of the generation that begins here; None: nothing."""
    asked = _asked.get()
    if asked is not None:
        asked.taken = True
    return asked
