"""Watch what turns texts into vectors or scores.

One method a class is the choke point: ``encode_query``, ``encode_document``, ``rank`` and the pools
of processes all end there. Batches are counted where they are tokenized, on the CPU, so nothing
waits for a device; in a pool that happens in other processes, and tokens stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch import semconv_tasks as tasks
from llmwatch._guard import Guard
from llmwatch.config import CaptureContent
from llmwatch.measure.record import Usage
from llmwatch.patching import Patch, Wrapper
from llmwatch.signals import drift_feed
from llmwatch.signals.content import Content
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.sentence_transformers.reading import (
    Asked,
    as_matrix,
    asked,
    dimension,
    model_name,
    tokens_of,
)

_BEGIN = Guard("sentence_transformers.begin")
_BATCH = Guard("sentence_transformers.batch")
_END = Guard("sentence_transformers.end")

PACKAGE = "sentence_transformers"
CHOKE_POINTS = (
    ("SentenceTransformer.encode", "embeddings"),
    ("SparseEncoder.encode", "embeddings"),
    ("MultiVectorEncoder.encode", "embeddings"),
    ("CrossEncoder.predict", "rerank"),
)
"""The method of each class that all others end in, and what it is called."""
TOKENIZERS = ("preprocess", "tokenize")
"""What makes a batch of texts fit for the model: since release 6, and before."""


class _Call:
    """One call in progress, and its batches so far."""

    __slots__ = ("asked", "batches", "largest", "operation", "tokens")

    def __init__(self, operation: Operation, asked: Asked) -> None:
        self.operation = operation
        self.asked = asked
        self.batches = self.largest = 0
        self.tokens: int | None = 0

    def add(self, batch: Any, features: Any) -> None:
        self.batches += 1
        self.largest = max(self.largest, len(batch))
        tokens = tokens_of(features)
        self.tokens = None if self.tokens is None or tokens is None else self.tokens + tokens


_current: ContextVar[_Call | None] = ContextVar("llmwatch-encode", default=None)
"""The call that runs here: what it calls in turn is part of it."""


class Calls:
    """The wrappers, and what they share.

    Args:
        signals: Where operations are made.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def patches(self) -> list[Patch]:
        """The patch table. All of it is optional: no release has everything."""
        rows = [
            Patch(PACKAGE, path, self._watch(operation), optional=True)
            for path, operation in CHOKE_POINTS
        ]
        for path, _ in CHOKE_POINTS:
            owner = path.partition(".")[0]
            rows += [
                Patch(PACKAGE, f"{owner}.{name}", self._tokenized, optional=True)
                for name in TOKENIZERS
            ]
        return rows

    def _watch(self, name: str) -> Wrapper:
        def call(
            wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            call = self._begin(name, model, args, kwargs) if _current.get() is None else None
            if call is None:
                return wrapped(*args, **kwargs)
            operation = call.operation
            entered, token = operation.enter(), _current.set(call)
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                _end(call, None)
                operation.finish(error)
                raise
            finally:
                _current.reset(token)
                operation.leave(entered)
            _end(call, result)
            operation.finish()
            return result

        return call

    def _begin(
        self, name: str, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Call | None:
        with _BEGIN:
            given = asked(model, args, kwargs)
            operation = self.signals.start(
                name,
                "huggingface",
                model_name(model),
                given.attributes(),
                kind=SpanKind.INTERNAL,
            )
            if operation is None:
                return None
            operation.inputs = given.many
            config = self.signals.config
            if config.capture_content is not CaptureContent.NO_CONTENT:
                operation.content = content = Content(config)
                content.input_messages = given.messages
            return _Call(operation, given)
        return None

    def _tokenized(
        self,
        wrapped: Callable[..., Any],
        model: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        features = wrapped(*args, **kwargs)
        if (call := _current.get()) is not None:
            with _BATCH:
                given = args[0] if args else next(iter(kwargs.values()))
                call.add(given, features)
        return features


def _end(call: _Call, result: Any) -> None:
    """Write what is known at the end on the operation."""
    with _END:
        operation, found = call.operation, call.operation.attributes
        if call.batches:
            found[tasks.BATCHES] = call.batches
            found[tasks.BATCH_SIZE] = call.largest
            if call.tokens is not None:
                operation.usage = Usage(input_tokens=call.tokens)
        if result is None or operation.name != "embeddings":
            return
        if (width := dimension(result)) is not None:
            found[semconv.EMBEDDINGS_DIMENSION_COUNT] = width
        feed = drift_feed.feed
        matrix = as_matrix(result) if feed is not None and call.asked.comparable else None
        if feed is not None and matrix is not None:
            feed.put_matrix(operation, matrix)
