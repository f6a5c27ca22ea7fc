"""Ask a server for the token usage of a stream whose caller did not ask.

Only by option, and never where the user can see the request's effect: not for raw responses, not
where the user set ``stream_options``. The usage chunk that the server adds is hidden again. A
server that refuses the option is not asked a second time, and the user never sees the refusal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from llmwatch.sources.openai.response import get
from llmwatch.sources.openai.routes import Route

REFUSALS = (400, 404, 422)
"""HTTP statuses by which servers refuse a field they do not know."""


def with_usage(route: Route, options: Any, *, streamed: bool, raw: bool) -> Any | None:
    """A copy of *options* that asks for usage, or None where it must not be asked for."""
    body = options.json_data
    if not streamed or raw or route.shape not in ("chat", "completions"):
        return None
    extra = options.extra_json if isinstance(options.extra_json, Mapping) else {}
    if not isinstance(body, Mapping) or "stream_options" in body or "stream_options" in extra:
        return None
    asking = options.model_copy()
    asking.json_data = {**body, "stream_options": {"include_usage": True}}
    return asking


def hide(chunks: Any) -> Any:
    """Keep the usage chunk, which has no choices, from the user."""
    return _ahide(chunks) if hasattr(chunks, "__anext__") else _hide(chunks)


def _hide(chunks: Iterator[Any]) -> Iterator[Any]:
    for chunk in chunks:
        if not _only_usage(chunk):
            yield chunk


async def _ahide(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in chunks:
        if not _only_usage(chunk):
            yield chunk


def _only_usage(chunk: Any) -> bool:
    return get(chunk, "usage") is not None and not get(chunk, "choices")
