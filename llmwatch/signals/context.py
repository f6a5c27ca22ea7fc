"""What travels with the context: the attributes of `llmwatch.attributes` and the operation.

OpenTelemetry's context holds both, so they follow contextvars through tasks, and threads that
copy the context. Nothing here is ever attached across a `yield` of somebody else's generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context, create_key

from llmwatch import semconv
from llmwatch.errors import ConfigError

if TYPE_CHECKING:
    from llmwatch.signals.operation import Operation

AttributeValue = str | bool | int | float

ATTRIBUTES_KEY = create_key("llmwatch-attributes")
OPERATION_KEY = create_key("llmwatch-operation")

_INTEGER_BITS = 63
"""OTLP has no room for larger ones."""

NO_ATTRIBUTES: Mapping[str, AttributeValue] = {}


@contextmanager
def attributes(
    *,
    route: str | None = None,
    session: str | None = None,
    user: str | None = None,
    tenant: str | None = None,
    flagged: bool | None = None,
    **more: AttributeValue | None,
) -> Iterator[None]:
    """Put attributes on every span and event that llmwatch makes inside the block.

    Args:
        route: What the application calls this kind of request; on metrics too (keep few values).
        session: Id of a conversation or session (``session.id``).
        user: Id of an end user (``user.id``).
        tenant: Id of a customer; on metrics too (keep few values).
        flagged: True marks it as worth keeping, for the setting ``keep``; see `flag`.
        **more: Any other attribute, under its own name with ``__`` read as ``.``; strings, numbers
            and booleans. None removes what an outer block set.

    Raises:
        ConfigError: If a value is not a string, number or boolean.

    Blocks nest; the inner value wins. The attributes follow the current OpenTelemetry context:
    asyncio tasks and `contextvars.copy_context` see them, bare threads do not.
    """
    given = {"route": route, "session": session, "user": user, "tenant": tenant, "flagged": flagged}
    named: dict[str, AttributeValue | None] = {
        semconv.CONTEXT_ATTRIBUTES[key]: _checked(key, value)
        for key, value in given.items()
        if value is not None
    }
    for key, value in more.items():
        named[encodable(key.replace("__", "."))] = _checked(key, value)
    merged = {key: value for key, value in {**_outer(), **named}.items() if value is not None}
    token = otel_context.attach(otel_context.set_value(ATTRIBUTES_KEY, merged))
    try:
        yield
    finally:
        detach(token)


def said_of(attributes: Mapping[str, Any], name: str | None) -> str | None:
    """What `llmwatch.attributes` said of an operation under *name*, as text; None: nothing."""
    if name is None:
        return None
    found = attributes.get(semconv.CONTEXT_ATTRIBUTES.get(name, name))
    return None if found is None else str(found)


def flag() -> None:
    """Mark the trace that is in progress as worth keeping, for the rule ``flagged`` of ``keep``.

    It goes on the current span: one of the program's own, or of `llmwatch.watch`. That of a call is
    current inside the call only, not while its stream is read. Where there is none, nothing
    happens.
    """
    trace.get_current_span().set_attribute(semconv.FLAGGED, True)


def encodable(value: Any) -> Any:
    """Text with question marks for what no exporter can encode; anything else as it is.

    A server's JSON, a file's name or a URL may hold a lone surrogate, for which UTF-8 has no bytes.
    One in an attribute of a metric makes Prometheus' whole page unreadable for as long as the
    process lives, and the SDK leave it out of OTLP, so that two series would look the same.

    Cost: 0.1 µs where it is ASCII.
    """
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value


def _outer() -> Mapping[str, AttributeValue]:
    return otel_context.get_value(ATTRIBUTES_KEY) or NO_ATTRIBUTES  # type: ignore[return-value]


def detach(token: Token[Context]) -> None:
    """Undo an attach in the same frame.

    A coroutine that is collected while it waits ends in somebody else's context: there is nothing
    to undo there, and OpenTelemetry's `detach` would log an error.
    """
    try:
        token.var.reset(token)
    except ValueError:
        return


def _checked(key: str, value: AttributeValue | None) -> AttributeValue | None:
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise ConfigError(
            f"attributes({key}={value!r}) cannot be used: give a string, a number or a boolean."
        )
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        return str(value)  # such as a UUID's number
    checked: AttributeValue | None = encodable(value)
    return checked


def current_operation(context: Context | None = None) -> Operation | None:
    """The innermost operation of llmwatch in *context* (default: the current one)."""
    return otel_context.get_value(OPERATION_KEY, context)  # type: ignore[return-value]
