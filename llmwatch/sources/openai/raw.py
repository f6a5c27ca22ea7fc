"""Watch raw responses: ``with_raw_response`` and ``with_streaming_response``.

The user gets the HTTP response and decides later whether it is parsed, read, or iterated. We hook
the response object itself: ``_parse``, which every kind of ``parse()`` goes through, ``read``, and
``close``. Bodies that have arrived are parsed once, into the client's own cache of parsed results.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import ref

from llmwatch._guard import Foreign, Guard
from llmwatch.sources.openai.response import read_usage
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
        call.operation.stream()
        finish_on_close(call.operation, http, close, None)
        _watch_parse(call, raw)
    elif hasattr(http, "_content"):
        _read_now(call, raw)
        call.operation.finish()
    else:
        finish_on_close(call.operation, http, close, None)
        _watch_read(call, raw, "aread" if asynchronous else "read")


def _watch_parse(call: Call, raw: Any) -> None:
    parsing: ref[Any] = ref(raw)

    def parse(*, to: Any = None) -> Any:
        current: Any = parsing()
        parsed = type(current)._parse(current, to=to)
        with _PARSE:
            if call.operation.active and hasattr(parsed, "_iterator"):
                current.__dict__.pop("_parse", None)
                call.follow(parsed)
        return parsed

    raw._parse = parse


def _read_now(call: Call, raw: Any) -> None:
    if call.route.shape == "embeddings":
        call.operation.usage = read_usage(_usage_at_the_end(raw.http_response.content))
        return
    parsed = None
    with _FOREIGN:
        parsed = raw.parse()
    if parsed is not None:
        call.read(parsed)


def _usage_at_the_end(content: bytes) -> Any:
    """The ``usage`` object of a JSON body, without parsing the vectors before it."""
    at = content.rfind(b'"usage"')
    if at < 0:
        return None
    with _FOREIGN:
        text = content[at + len('"usage"') :].decode().lstrip().removeprefix(":").lstrip()
        return json.JSONDecoder().raw_decode(text)[0]
    return None


def _watch_read(call: Call, raw: Any, method: str) -> None:
    operation, http, whole = call.operation, raw.http_response, ref(raw)
    response = ref(http)
    closing = "aclose" if method == "aread" else "close"

    def begin() -> Any:
        current = response()
        # Reading closes the response before we could look at its content: finish afterwards.
        current.__dict__.pop(closing, None)
        current.__dict__.pop(method, None)
        return current

    def end() -> None:
        with _READ:
            current, parsed = whole(), None
            if current is not None:
                with _FOREIGN:
                    parsed = current._parse()
            if parsed is not None:
                call.read(parsed)
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
