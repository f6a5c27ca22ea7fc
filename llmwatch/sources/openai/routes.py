"""Which requests of an OpenAI-compatible API cause inference, and what each is called.

Every call of the client, whatever method it began with, becomes one HTTP request; its method and
path say what it is. So new client helpers (``parse``, ``stream``, tool runners, raw wrappers)
need no patch of their own.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Shape = Literal["chat", "responses", "completions", "embeddings", "run", "other"]
"""How a request's body and its answer are read."""


class Route(NamedTuple):
    """One kind of request that causes inference."""

    path: str
    """Path template below the base URL."""
    operation: str
    """``gen_ai.operation.name``."""
    shape: Shape = "other"
    api: str | None = None
    """``openai.api.type``, where the conventions have a value for it."""
    output: str | None = None
    """``gen_ai.output.type``, where the path alone decides it."""
    method: str = "post"
    counts_input: bool = False
    """True where one request may carry several inputs."""


ROUTES = (
    Route("/chat/completions", "chat", "chat", "chat_completions"),
    Route("/responses", "chat", "responses", "responses"),
    Route("/responses/compact", "compact", "responses", "responses"),
    Route("/responses/{id}", "fetch_response", "responses", "responses", method="get"),
    Route("/completions", "text_completion", "completions"),
    Route("/embeddings", "embeddings", "embeddings", counts_input=True),
    Route("/images/generations", "image_generation", output="image"),
    Route("/images/edits", "image_edit", output="image"),
    Route("/images/variations", "image_variation", output="image"),
    Route("/audio/speech", "speech_generation", output="speech"),
    Route("/audio/transcriptions", "transcription", output="text"),
    Route("/audio/translations", "translation", output="text"),
    Route("/moderations", "moderation", counts_input=True),
    Route("/decisions", "decision"),
    Route("/videos", "video_generation", output="video"),
    Route("/videos/edits", "video_edit", output="video"),
    Route("/videos/extensions", "video_extension", output="video"),
    Route("/videos/{id}/remix", "video_remix", output="video"),
    Route("/threads/runs", "invoke_agent", "run"),
    Route("/threads/{id}/runs", "invoke_agent", "run"),
    Route("/threads/{id}/runs/{id}/submit_tool_outputs", "invoke_agent", "run"),
    Route("/agents/sessions", "create_agent"),
    Route("/agents/sessions/{id}/events", "invoke_agent"),
    Route("/agents/sessions/{id}/events", "invoke_agent", method="get"),
    Route("/fine_tuning/alpha/graders/run", "evaluation"),
)

_FIXED = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}
_TEMPLATES = [(route, route.path.split("/")) for route in ROUTES if "{" in route.path]
_PREFIXES = tuple({route.path.partition("{")[0] for route, _ in _TEMPLATES})


def find(method: str, url: str) -> Route | None:
    """The route of a request, or None where it causes no inference.

    Args:
        method: HTTP method, any case.
        url: Path below the client's base URL, perhaps with a query; a full URL is never ours.

    Cost: about 0.3 µs where the path is fixed.
    """
    path = url.partition("?")[0] if "?" in url else url
    if not path.startswith("/") and "://" not in path:
        path = f"/{path}"  # as the client joins it to its base URL
    method = method.lower()
    route = _FIXED.get((method, path))
    if route is not None or not path.startswith(_PREFIXES):
        return route
    parts = path.split("/")
    for candidate, template in _TEMPLATES:
        if candidate.method == method and _fits(parts, template):
            return candidate
    return None


def _fits(parts: list[str], template: list[str]) -> bool:
    return len(parts) == len(template) and all(
        bool(part) if wanted == "{id}" else part == wanted
        for part, wanted in zip(parts, template, strict=True)
    )
