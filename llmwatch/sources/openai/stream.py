"""Watch a stream of the client without changing what it is.

The user keeps the very `Stream` object, of its own type; only its inner iterator is ours. Two
facts of the client decide how:

* ``for x in stream`` iterates ``_iterator``, so ``__next__`` of the class is never called.
* ``_iterator`` is a generator bound to the stream: a reference cycle, so a dropped stream lives
  until the cycle collector runs. We restart that generator on a twin of the stream, which breaks
  the cycle: the span of a dropped stream ends when its last reference goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any
from weakref import ref

from llmwatch._guard import Guard
from llmwatch.signals.operation import Operation
from llmwatch.signals.streams import Read, atimed, timed
from llmwatch.sources.openai.chunks import reader_for
from llmwatch.sources.openai.routes import Shape

_CLOSE = Guard("openai.close")

Wrap = Callable[[Any], Any]


def watch_stream(
    operation: Operation,
    stream: Any,
    shape: Shape,
    *,
    eventful: bool = True,
    hide: Wrap | None = None,
    also: Callable[[Any], None] | None = None,
) -> None:
    """Put our timing generator inside *stream*, and finish *operation* when it ends.

    Args:
        operation: The operation that the stream belongs to.
        stream: A ``Stream`` or ``AsyncStream`` that nobody has read from yet.
        shape: How its chunks are read.
        eventful: See `reader_for`.
        hide: Wrapped round the timed iterator, to keep chunks that the user did not ask for.
        also: Called with every chunk too, where content is captured.
    """
    timeline = operation.timeline or operation.stream()
    timeline.opened = perf_counter()
    read = reader_for(shape, operation, eventful=eventful)
    if also is not None:
        read = _also(read, also)
    operation.abandon_with(stream)
    inner = _own_iterator(stream)
    if hasattr(inner, "__anext__"):
        watched: Any = atimed(operation, inner, read)
        finish_on_close(operation, stream.response, "aclose", watched)
    else:
        watched = timed(operation, inner, read)
        finish_on_close(operation, stream.response, "close", watched)
    stream._iterator = watched if hide is None else hide(watched)


def _also(first: Read, second: Callable[[Any], None]) -> Read:
    def both(chunk: Any) -> Any:
        second(chunk)
        other = first(chunk)
        return None if other is None else _also(other, second)

    return both


def _own_iterator(stream: Any) -> Any:
    """The stream's iterator, restarted on a twin where that is certainly the same thing."""
    kind, client = type(stream), sys.modules["openai._streaming"]
    if kind is not client.Stream and kind is not client.AsyncStream:
        return stream._iterator  # a subclass may keep state of its own: leave its cycle alone
    twin = object.__new__(kind)
    twin.__dict__.update(stream.__dict__)
    del twin.__dict__["_iterator"]
    return twin.__stream__()


def finish_on_close(operation: Operation, response: Any, method: str, watched: Any) -> None:
    """Finish *operation* when the consumer closes the HTTP response.

    Every way to close a stream early ends in the response's ``close``. While the generator itself
    runs, the close is its own, and it finishes the operation with more knowledge than we have here.

    Args:
        operation: What to finish.
        response: The HTTP response.
        method: ``close`` or ``aclose``.
        watched: Our generator that reads the response, if there is one.
    """
    generator = ref(watched) if watched is not None else None
    # Weak, so that our method on the response makes no cycle that would keep both alive.
    closing: ref[Any] = ref(response)

    def closed() -> Any:
        with _CLOSE:
            _closed_by_consumer(operation, generator)
        return closing()

    def close() -> None:
        if (current := closed()) is not None:
            type(current).close(current)

    async def aclose() -> None:
        if (current := closed()) is not None:
            await type(current).aclose(current)

    setattr(response, method, close if method == "close" else aclose)

    def undo() -> None:
        if (current := closing()) is not None:
            current.__dict__.pop(method, None)

    operation.at_end(undo)


def _closed_by_consumer(operation: Operation, generator: ref[Any] | None) -> None:
    if generator is None:
        operation.abandon("closed")
    elif (running := generator()) is None:
        operation.abandon()  # the garbage collector is taking it all away
    elif not _is_running(running):
        operation.abandon("closed")


def _is_running(generator: Any) -> bool:
    running = getattr(generator, "gi_running", None)
    return bool(generator.ag_running if running is None else running)
