"""What other programs send over OTLP/HTTP, as lines of the store.

Both encodings end in the same messages of protobuf, so that what is not OTLP is refused, and what
is written is written as the store's own exporters do.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from google.protobuf.json_format import ParseError as JsonError
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from llmwatch.export.dropped import Signal
from llmwatch.export.local_store import LINE_ITEMS, to_json

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


class RefusedError(Exception):
    """A request that cannot be taken, with the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kind(NamedTuple):
    """One signal's messages, and what their parts are called."""

    signal: Signal
    request: Any
    response: Any
    rejected: str
    resources: str
    scopes: str
    items: str


KINDS: Final = {
    "/v1/traces": Kind(
        *("traces", ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans"),
        *("resource_spans", "scope_spans", "spans"),
    ),
    "/v1/metrics": Kind(
        *("metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse),
        *("rejected_data_points", "resource_metrics", "scope_metrics", "metrics"),
    ),
    "/v1/logs": Kind(
        *("logs", ExportLogsServiceRequest, ExportLogsServiceResponse, "rejected_log_records"),
        *("resource_logs", "scope_logs", "log_records"),
    ),
}
"""By the path of the URL."""


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """A body without its compression.

    Raises:
        RefusedError: If it is compressed otherwise than by gzip, not whole, or above *limit*.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise RefusedError(415, f"Content-Encoding {encoding!r} is not understood: use gzip.")
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(body, limit + 1)
    except zlib.error as error:
        raise RefusedError(400, f"The body is not gzip: {error}.") from None
    if len(plain) > limit:
        raise RefusedError(413, f"The body is larger than {limit} bytes.")
    if not unzip.eof:
        raise RefusedError(400, "The body ends in the midst of its compression.")
    return plain


def parsed(kind: Kind, body: bytes, content_type: str) -> Any:
    """The message in a body.

    Raises:
        RefusedError: If it is none.
    """
    request = kind.request()
    try:
        if content_type == PROTOBUF:
            request.ParseFromString(body)
        elif content_type == JSON:
            found = _with_base64(json.loads(body))
            if not isinstance(found, dict):
                raise ValueError("no message")
            ParseDict(found, request, ignore_unknown_fields=True)
        else:
            raise RefusedError(415, f"Content-Type {content_type!r} is not OTLP.")
    except (DecodeError, JsonError, ValueError, TypeError, RecursionError) as error:
        raise RefusedError(400, f"The body is not OTLP: {type(error).__name__}.") from None
    return request


_IDS = frozenset({"traceId", "spanId", "parentSpanId"})
_HOLD_NO_IDS = frozenset({"attributes", "resource", "scope", "body"})


def _with_base64(node: Any) -> Any:
    """OTLP/JSON writes ids in hex, where protobuf's own mapping reads base64."""
    if isinstance(node, list):
        return [_with_base64(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key: _value(key, value) for key, value in node.items()}


def _value(key: str, value: Any) -> Any:
    if key in _IDS:
        return b64encode(bytes.fromhex(value)).decode()
    return value if key in _HOLD_NO_IDS else _with_base64(value)


def count(kind: Kind, request: Any) -> int:
    """Spans, data points or log records in a message."""
    items = [item for _, _, found in _scopes(kind, request) for item in found]
    if kind.signal != "metrics":
        return len(items)
    return sum(
        len(getattr(item, item.WhichOneof("data")).data_points)
        for item in items
        if item.WhichOneof("data")
    )


def drop_nameless(kind: Kind, request: Any) -> int:
    """Take out spans without valid ids, which nobody can find; returns how many those were."""
    dropped = 0
    for _, _, items in _scopes(kind, request) if kind.signal == "traces" else ():
        for index in reversed(range(len(items))):
            span = items[index]
            if not (_is_id(span.trace_id, 16) and _is_id(span.span_id, 8)):
                del items[index]
                dropped += 1
    return dropped


def _is_id(found: bytes, length: int) -> bool:
    return len(found) == length and any(found)


def lines(kind: Kind, request: Any) -> Iterator[tuple[int, bytes]]:
    """A message as lines of the store, each with the number of items in it."""
    for part in _parts(kind, request):
        yield count(kind, part), to_json(part)


def _parts(kind: Kind, request: Any) -> Iterator[Any]:
    """Messages of no more than `LINE_ITEMS` items; a line must be read as a whole."""
    if kind.signal == "metrics" or count(kind, request) <= LINE_ITEMS:
        yield request
        return
    for of_resource, of_scope, items in _scopes(kind, request):
        for begin in range(0, len(items), LINE_ITEMS):
            part = kind.request()
            resource = getattr(part, kind.resources).add()
            resource.resource.CopyFrom(of_resource.resource)
            resource.schema_url = of_resource.schema_url
            scope = getattr(resource, kind.scopes).add()
            scope.scope.CopyFrom(of_scope.scope)
            scope.schema_url = of_scope.schema_url
            getattr(scope, kind.items).extend(items[begin : begin + LINE_ITEMS])
            yield part


def _scopes(kind: Kind, request: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Each scope of a message, with its resource and its items."""
    for of_resource in getattr(request, kind.resources):
        for of_scope in getattr(of_resource, kind.scopes):
            yield of_resource, of_scope, getattr(of_scope, kind.items)
