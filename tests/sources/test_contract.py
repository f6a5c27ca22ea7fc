"""Decorated functions keep the contract of all sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import llmwatch
from tests.sources.contract import SourceContract


@llmwatch.watch(model="m")
def answer(prompt: str, *, loud: bool = False) -> str:
    """Answer, or fail on an empty prompt."""
    if not prompt:
        raise ValueError("an empty prompt") from KeyError("prompt")
    return prompt.upper() if loud else prompt


@llmwatch.watch(model="m")
def tokens(prompt: str) -> Iterator[str]:
    """Yield the words of the prompt."""
    yield from prompt.split()


class TestDecorated(SourceContract):
    """A function and a generator of the user's own."""

    def call(self) -> Any:
        """A watched function."""
        return answer("hi", loud=True)

    def fail(self) -> Any:
        """A watched function that raises."""
        return answer("")

    def stream(self) -> Any:
        """A watched generator."""
        return tokens("a b c d")

    def patched(self) -> list[tuple[Any, str]]:
        """Nothing: a decorated function is what it was defined as."""
        return []
