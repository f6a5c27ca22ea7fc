"""Which function answers which request."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from llmwatch.demo.answers import assistants, chat, media, responses, simple
from llmwatch.demo.answers.common import SERVER_ERROR, Call, Store, error_body, reply
from llmwatch.demo.script import Script
from llmwatch.demo.wire import Answer, Exchange

ROUTES: tuple[tuple[str, str, Callable[[Call], Answer]], ...] = (
    ("POST", "/chat/completions", chat.chat),
    ("POST", "/completions", chat.completions),
    ("POST", "/responses", responses.create),
    ("POST", "/responses/compact", responses.compact),
    ("POST", "/responses/input_tokens", responses.input_tokens),
    ("POST", "/responses/{}/cancel", responses.cancel),
    ("GET", "/responses/{}", responses.retrieve),
    ("DELETE", "/responses/{}", responses.delete),
    ("POST", "/embeddings", simple.embeddings),
    ("POST", "/moderations", simple.moderations),
    ("POST", "/decisions", simple.decisions),
    ("GET", "/models", simple.models),
    ("GET", "/models/{}", simple.model),
    ("POST", "/images/generations", media.images),
    ("POST", "/images/edits", media.images),
    ("POST", "/images/variations", media.images),
    ("POST", "/audio/speech", media.speech),
    ("POST", "/audio/transcriptions", media.transcriptions),
    ("POST", "/audio/translations", media.translations),
    ("POST", "/videos", media.videos),
    ("POST", "/videos/edits", media.videos),
    ("POST", "/videos/extensions", media.videos),
    ("POST", "/videos/characters", media.video_character),
    ("POST", "/videos/{}/remix", media.videos),
    ("GET", "/videos/{}", media.video),
    ("GET", "/videos/{}/content", media.video_content),
    ("DELETE", "/videos/{}", media.video_delete),
    ("POST", "/assistants", assistants.assistants),
    ("POST", "/threads", assistants.threads),
    ("POST", "/threads/runs", assistants.create_and_run),
    ("POST", "/threads/{}/messages", assistants.messages),
    ("GET", "/threads/{}/messages", assistants.message_list),
    ("POST", "/threads/{}/runs", assistants.run),
    ("GET", "/threads/{}/runs/{}", assistants.retrieve),
    ("POST", "/threads/{}/runs/{}/cancel", assistants.cancel),
    ("POST", "/threads/{}/runs/{}/submit_tool_outputs", assistants.submit),
)

_TABLE = [
    (method, re.compile(path.replace("{}", "([^/]+)")), function)
    for method, path, function in ROUTES
]
_PREFIX = re.compile(r"/(?:v1|openai/v1|openai/deployments/(?P<deployment>[^/]+)|openai)(?=/)")
"""OpenAI's paths, and the two shapes of Azure's."""


def answer(exchange: Exchange, script: Script, store: Store) -> Answer:
    """Answer a request as the API would, with its usual headers."""
    return _with_headers(_found(exchange, script, store), exchange, script)


def refusal(exchange: Exchange, script: Script) -> Answer:
    """Answer with the error that the script asks for."""
    known = _ERRORS.get(script.status)
    body = SERVER_ERROR if known is None else error_body(*known)
    return _with_headers(reply(body, status=script.status), exchange, script)


def malformed(exchange: Exchange, error: Exception) -> Answer:
    """Answer that the request (or its script) makes no sense."""
    body = error_body(f"Cannot read this request: {error!r}", "invalid_request_error")
    return _with_headers(reply(body, status=400), exchange, Script())


_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid 'messages': empty array.", "invalid_request_error", "empty_array"),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to use this model.", "invalid_request_error", None),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    409: ("The resource is being changed by another request.", "conflict", None),
    422: ("The request could not be processed.", "invalid_request_error", None),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
}  # fmt: skip


def _found(exchange: Exchange, script: Script, store: Store) -> Answer:
    prefix = _PREFIX.match(exchange.path)
    if prefix is not None:
        path = exchange.path[prefix.end() :]
        for method, pattern, function in _TABLE:
            if exchange.method == method and (match := pattern.fullmatch(path)) is not None:
                return function(Call(exchange, script, store, match.groups(), prefix["deployment"]))
    message = f"Invalid URL ({exchange.method} {exchange.path})"
    return reply(error_body(message, "invalid_request_error"), status=404)


def _with_headers(answer: Answer, exchange: Exchange, script: Script) -> Answer:
    usual: tuple[tuple[str, str], ...] = (
        ("x-request-id", exchange.request_id),
        ("openai-version", "2020-10-01"),
        ("openai-organization", "org-demo"),
        ("openai-processing-ms", str(round(script.delay * 1000))),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "199850"),
        ("x-ratelimit-reset-requests", "8.64s"),
        ("x-ratelimit-reset-tokens", "45ms"),
    )
    if script.retry_after is not None:
        usual += (
            ("retry-after", str(max(1, round(script.retry_after)))),
            ("retry-after-ms", str(round(script.retry_after * 1000))),
        )
    return replace(answer, headers=answer.headers + usual)
