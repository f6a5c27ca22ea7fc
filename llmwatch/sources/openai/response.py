"""Read an answer of the API onto its operation.

Answers are objects of the client, or plain dicts and strings where a compatible server sent what
the client could not parse: every field may be missing. Vectors, images and audio are never walked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmwatch import semconv
from llmwatch.measure.record import Usage
from llmwatch.signals.operation import Operation
from llmwatch.sources.openai.routes import Shape

_NOTHING = object()
_VECTOR = b'"embedding":'
MOST_BEFORE = 1000
"""Bytes of an answer before its first vector, at most."""


def get(source: Any, name: str) -> Any:
    """A field of an object or mapping; None where there is none."""
    if source is None:
        return None
    if isinstance(source, dict):
        return source.get(name)
    fields = getattr(source, "__dict__", None)
    if fields is not None and name in fields:
        return fields[name]
    extra = getattr(source, "__pydantic_extra__", _NOTHING)
    if extra is not _NOTHING:
        # An object of the client: to ask it for what it has not got would take it 6 µs.
        return extra.get(name) if isinstance(extra, dict) else None
    value = getattr(source, name, _NOTHING)
    if value is _NOTHING:  # asked only here whether it is some other mapping: that is slow
        return source.get(name) if isinstance(source, Mapping) else None
    return value


def read_usage(usage: Any) -> Usage | None:
    """Token counts in either of the API's two spellings; None where nothing was counted."""
    if usage is None:
        return None
    given, made = get(usage, "prompt_tokens"), get(usage, "completion_tokens")
    if given is None:
        given, made = get(usage, "input_tokens"), get(usage, "output_tokens")
        given_details = get(usage, "input_tokens_details") or get(usage, "input_token_details")
        made_details = get(usage, "output_tokens_details") or get(usage, "output_token_details")
    else:
        given_details = get(usage, "prompt_tokens_details")
        made_details = get(usage, "completion_tokens_details")
    if (given := _count(given)) is None and (made := _count(made)) is None:
        return None
    if given_details is None and made_details is None:
        return Usage(given, _count(made))
    return Usage(
        given,
        _count(made),
        _count(get(given_details, "cached_tokens")),
        _count(get(given_details, "cache_write_tokens")),
        _count(get(made_details, "reasoning_tokens")),
        _count(get(given_details, "audio_tokens")),
        _count(get(made_details, "audio_tokens")),
    )


def _count(value: Any) -> int | None:
    """A number of tokens; what is none (compatible servers send all sorts) counts as unknown."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    return None


_CODE = re.compile(r"[A-Za-z][A-Za-z_.-]{0,63}|\d{1,4}")


def safe_code(code: Any) -> str | None:
    """An error code of the server, if it looks like one: some servers put anything there."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


_ERROR_TYPES = frozenset(
    (
        "server_error",
        "rate_limit_exceeded",
        "invalid_prompt",
        "bio_policy",
        "vector_store_timeout",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
        "image_file_not_found",
        "content_filter",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "session_expired",
    )
)


def note_failure(operation: Operation, code: Any, default: str) -> None:
    """Mark an operation whose answer says that it failed.

    Its ``error.type``, which is on metrics too, is the server's code only if that is well known,
    else *default*; the code itself is on the span.
    """
    operation.error_type = code if code in _ERROR_TYPES else default
    if (shown := safe_code(code)) is not None:
        operation.attributes[semconv.ERROR_CODE] = shown


def read_chat(operation: Operation, answer: Any) -> None:
    """A chat completion: model, id, finish reasons, tools called, usage."""
    _read_common(operation, answer)
    choices = get(answer, "choices") or ()
    operation.finish_reasons = _reasons(choices)
    operation.refused = any(get(get(choice, "message"), "refusal") for choice in choices)
    operation.usage = read_usage(get(answer, "usage"))
    called = [
        name
        for choice in choices
        for call in get(get(choice, "message"), "tool_calls") or ()
        if (name := tool_call_name(call)) is not None
    ]
    if called:
        operation.attributes[semconv.TOOLS_CALLED] = called


def tool_call_name(call: Any) -> str | None:
    """The name of the function or custom tool that a chat message calls."""
    name = get(get(call, "function"), "name") or get(get(call, "custom"), "name")
    return name if isinstance(name, str) else None


def read_completion(operation: Operation, answer: Any) -> None:
    """A text completion: model, id, finish reasons, usage."""
    _read_common(operation, answer)
    operation.finish_reasons = _reasons(get(answer, "choices") or ())
    operation.usage = read_usage(get(answer, "usage"))


def read_responses(operation: Operation, answer: Any) -> None:
    """A response of the Responses API: status decides finish reason and error."""
    _read_common(operation, answer)
    operation.usage = read_usage(get(answer, "usage"))
    conversation = get(get(answer, "conversation"), "id")
    if isinstance(conversation, str):
        operation.attributes[semconv.CONVERSATION_ID] = conversation
    operation.refused = any(
        get(part, "type") == "refusal"
        for item in get(answer, "output") or ()
        for part in get(item, "content") or ()
    )
    called = [
        name
        for item in get(answer, "output") or ()
        if str(get(item, "type") or "").endswith("_call")
        and isinstance(name := get(item, "name") or get(item, "type"), str)
    ]
    if called:
        operation.attributes[semconv.TOOLS_CALLED] = called
    status = get(answer, "status")
    if status == "failed":
        note_failure(operation, get(get(answer, "error"), "code"), "response_failed")
    reason = {
        "completed": "tool_calls" if _calls_client(answer) else "stop",
        "incomplete": get(get(answer, "incomplete_details"), "reason") or "incomplete",
        "failed": "error",
        "cancelled": "cancelled",
    }.get(str(status))
    if reason is not None:
        operation.finish_reasons = [str(reason)]


def _calls_client(answer: Any) -> bool:
    kinds = {get(item, "type") for item in get(answer, "output") or ()}
    return bool(kinds & {"function_call", "custom_tool_call"})


def read_embeddings(operation: Operation, answer: Any) -> None:
    """Embeddings: model, usage, how many vectors, and the dimension of the first one."""
    _read_common(operation, answer)
    operation.usage = read_usage(get(answer, "usage"))
    data = get(answer, "data")
    if not isinstance(data, list):
        return
    operation.attributes[semconv.OUTPUT_COUNT] = len(data)
    vector = get(data[0], "embedding") if data else None
    if isinstance(vector, list):
        operation.attributes[semconv.EMBEDDINGS_DIMENSION_COUNT] = len(vector)


def read_vectors(answer: Any) -> list[Any]:
    """The vectors of an embeddings answer, as lists of numbers or base64, not copied."""
    data = get(answer, "data")
    if not isinstance(data, list):
        return []
    return [vector for item in data if (vector := get(item, "embedding")) is not None]


def coded(body: bytes) -> bool:
    """True if the vectors of an embeddings answer are base64."""
    at = body.find(_VECTOR, 0, MOST_BEFORE) + len(_VECTOR)
    return at >= len(_VECTOR) and body[at : at + 9].lstrip().startswith(b'"')


def vectors_in(body: bytes) -> list[Any]:
    """As `read_vectors`, of the bytes of an answer."""
    return read_vectors(json.loads(body))


def read_run(operation: Operation, answer: Any) -> None:
    """An assistant's run: its usage is known only once it has completed."""
    _read_common(operation, answer)
    operation.usage = read_usage(get(answer, "usage"))
    if isinstance(thread := get(answer, "thread_id"), str):
        operation.attributes[semconv.CONVERSATION_ID] = thread
    status = get(answer, "status")
    if status in ("failed", "expired"):
        note_failure(operation, get(get(answer, "last_error"), "code"), f"run_{status}")
    if status in ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action"):
        operation.finish_reasons = [status]


def read_other(operation: Operation, answer: Any) -> None:
    """Anything else: model, id, usage and counts where the answer has them."""
    _read_common(operation, answer)
    operation.usage = read_usage(get(answer, "usage"))
    for field in ("data", "results"):
        if isinstance(items := get(answer, field), list):
            operation.attributes[semconv.OUTPUT_COUNT] = len(items)
    if get(answer, "status") == "failed":
        note_failure(operation, get(get(answer, "error"), "code"), "failed")


READERS: dict[Shape, Callable[[Operation, Any], None]] = {
    "chat": read_chat,
    "completions": read_completion,
    "responses": read_responses,
    "embeddings": read_embeddings,
    "run": read_run,
    "other": read_other,
}


def _read_common(operation: Operation, answer: Any) -> None:
    if isinstance(model := get(answer, "model"), str):
        operation.response_model = model
    if isinstance(identity := get(answer, "id"), str):
        operation.response_id = identity
    if isinstance(tier := get(answer, "service_tier"), str):
        operation.attributes[semconv.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if isinstance(fingerprint := get(answer, "system_fingerprint"), str):
        operation.attributes[semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint


def _reasons(choices: Iterable[Any]) -> list[str] | None:
    found = [str(reason) for each in choices if (reason := get(each, "finish_reason")) is not None]
    return found or None


_HEADERS: dict[bytes, tuple[str, type]] = {
    b"x-request-id": (semconv.REQUEST_ID, str),
    b"apim-request-id": (semconv.REQUEST_ID, str),
    b"x-ratelimit-remaining-requests": (semconv.RATE_LIMIT_REMAINING_REQUESTS, int),
    b"x-ratelimit-remaining-tokens": (semconv.RATE_LIMIT_REMAINING_TOKENS, int),
}


def read_headers(operation: Operation, response: Any) -> None:
    """An allow-list of the HTTP response's headers."""
    for name, value in response.headers.raw:
        if (wanted := _HEADERS.get(name.lower())) is not None:
            key, kind = wanted
            text = value.decode("latin-1")
            if kind is str:
                operation.attributes[key] = text
            elif text.isdigit():
                operation.attributes[key] = int(text)
