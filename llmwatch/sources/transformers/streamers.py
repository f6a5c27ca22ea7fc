"""Streamers across threads: a generation belongs to the trace of whoever built its streamer.

A thread inherits no context, and the usual way to stream is a thread that runs ``model.generate``
for a `TextIteratorStreamer`. So the context is kept when a streamer is built, and taken where
``generate`` runs with that streamer on a thread that has no span of its own. Streamers that do not
derive from `TextStreamer` are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from llmwatch._guard import Guard
from llmwatch.patching import Patch

_KEEP = Guard("transformers.streamer")


class Homes:
    """The contexts in which living streamers were built."""

    def __init__(self) -> None:
        # By identity: a user's streamer may compare and hash as it likes.
        self._kept: dict[int, tuple[ref[Any], Context]] = {}

    def patches(self) -> list[Patch]:
        """Every streamer of the library but its base class is built here."""
        module = "transformers.generation.streamers"
        return [Patch(module, "TextStreamer.__init__", self._built)]

    def of(self, streamer: object) -> Context | None:
        """The context to generate in for *streamer*; None: the running one is right."""
        kept = self._kept.get(id(streamer))
        if kept is None or trace.get_current_span().get_span_context().is_valid:
            return None
        return kept[1]

    def _built(
        self,
        wrapped: Callable[..., Any],
        streamer: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        with _KEEP:
            if context := otel_context.get_current():
                self._keep(streamer, context)
        return wrapped(*args, **kwargs)

    def _keep(self, streamer: Any, context: Context) -> None:
        key, kept = id(streamer), self._kept
        kept[key] = (ref(streamer, lambda _: kept.pop(key, None)), context)
