"""Watch raw responses: ``with_raw_response`` and ``with_streaming_response``.

The user gets the HTTP response and decides later whether it is parsed, read, or iterated. We hook
the response object itself: ``_parse``, which every kind of ``parse()`` goes through, ``read``, and
``close``. Bodies that have arrived are parsed once, into the client's own cache of parsed results.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

import wrapt

from llmwatch._guard import Foreign, Guard
from llmwatch.signals import drift_feed
from llmwatch.signals.operation import Operation, ending_of
from llmwatch.sources.openai.response import read_usage, vectors_in
from llmwatch.sources.openai.stream import finish_on_close

if TYPE_CHECKING:
    from llmwatch.sources.openai.calls import Call

_PARSE = Guard("openai.raw_parse")
_READ = Guard("openai.raw_read")
_FOREIGN = Foreign()


def watch_raw(call: Call, raw: Any, *, asynchronous: bool) -> None:
    """Follow a raw response to its end.

    Args:
        call: The request that it answers.
        raw: ``LegacyAPIResponse``, ``APIResponse`` or ``AsyncAPIResponse``.
        asynchronous: True if it came from an asynchronous client.
    """
    http, close = raw.http_response, "aclose" if asynchronous else "close"
    if getattr(raw, "_stream", False) or getattr(raw, "_is_sse_stream", False):
        finish_on_close(call.operation, http, close, None)
        http.stream = _Bytes(http.stream, call.operation)
        _watch_parse(call, raw)
    elif hasattr(http, "_content"):
        _read_whole(call, raw, raw.parse)
        call.operation.finish()
    else:
        finish_on_close(call.operation, http, close, None)
        http.stream = _Bytes(http.stream, call.operation)
        _watch_read(call, raw, "aread" if asynchronous else "read")


class _Bytes(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic in its stubs only
    """The byte stream of a response whose user may read it without the client's parser.

    It sees what closing the response alone does not tell: that all was read, or what broke.
    """

    def __init__(self, stream: Any, operation: Operation) -> None:
        super().__init__(stream)
        self._self_operation: Operation | None = operation

    def let_go(self) -> None:
        """The response is read by the client's parser after all: that is watched on its own."""
        self._self_operation = None

    def _self_end(self, error: BaseException | None) -> None:
        operation = self._self_operation
        if operation is not None:
            operation.finish(error, ending="exhausted" if error is None else ending_of(error))

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.__wrapped__
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_end(error)
            raise
        self._self_end(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self.__wrapped__:
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_end(error)
            raise
        self._self_end(None)


def _watch_parse(call: Call, raw: Any) -> None:
    parsing: ref[Any] = ref(raw)

    def parse(*, to: Any = None) -> Any:
        current: Any = parsing()
        parsed = type(current)._parse(current, to=to)
        with _PARSE:
            if call.operation.active and hasattr(parsed, "_iterator"):
                current.__dict__.pop("_parse", None)
                current.http_response.stream.let_go()
                call.follow(parsed)
        return parsed

    raw._parse = parse


def _read_whole(call: Call, raw: Any, parse: Callable[[], Any]) -> None:
    """Read a body that has arrived, by the client's own parser unless there are vectors in it."""
    if call.route.shape == "embeddings":
        content = raw.http_response.content
        call.operation.usage = read_usage(_last_field(content, b'"usage"'))
        if isinstance(model := _last_field(content, b'"model"'), str):
            call.operation.response_model = model
        if (feed := drift_feed.feed) is not None:
            feed.put_body(call.operation, content, content.count(b'"embedding":'), vectors_in)
        return
    parsed = None
    with _FOREIGN:
        parsed = parse()
    if parsed is not None:
        call.read(parsed)


def _last_field(content: bytes, name: bytes) -> Any:
    """The value of the last field of that name in a JSON body, without parsing what is before."""
    at = content.rfind(name)
    if at < 0:
        return None
    with _FOREIGN:
        text = content[at + len(name) :].decode().lstrip().removeprefix(":").lstrip()
        return json.JSONDecoder().raw_decode(text)[0]
    return None


def _watch_read(call: Call, raw: Any, method: str) -> None:
    operation, http, whole = call.operation, raw.http_response, ref(raw)
    response = ref(http)
    closing = "aclose" if method == "aread" else "close"

    def begin() -> Any:
        current: Any = response()
        # Reading closes the response before we could look at its content: finish afterwards.
        current.__dict__.pop(closing, None)
        current.__dict__.pop(method, None)
        current.stream.let_go()
        return current

    def end() -> None:
        with _READ:
            if (current := whole()) is not None:
                _read_whole(call, current, current._parse)
        operation.finish()

    def read() -> bytes:
        current = begin()
        try:
            content: bytes = type(current).read(current)
        except BaseException as error:
            operation.finish(error)
            raise
        end()
        return content

    async def aread() -> bytes:
        current = begin()
        try:
            content: bytes = await type(current).aread(current)
        except BaseException as error:
            operation.finish(error)
            raise
        end()
        return content

    setattr(http, method, aread if method == "aread" else read)
