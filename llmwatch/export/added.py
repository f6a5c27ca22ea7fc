"""Ended spans with attributes that were not known, or not wanted, when they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan


class Added(ReadableSpan):
    """A span that ended, with more attributes; for whoever reads it, all else is the same.

    Args:
        span: It stays as it is: others may read it too.
        more: The attributes; mappings and lists may be among them, as OTLP has them.
    """

    def __init__(self, span: ReadableSpan, more: Mapping[str, Any]) -> None:
        super().__init__(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes={**(span.attributes or {}), **more},
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._counts = span.dropped_attributes, span.dropped_events, span.dropped_links

    @property
    def dropped_attributes(self) -> int:
        """Attributes beyond the SDK's limit."""
        return self._counts[0]

    @property
    def dropped_events(self) -> int:
        """Events beyond the SDK's limit."""
        return self._counts[1]

    @property
    def dropped_links(self) -> int:
        """Links beyond the SDK's limit."""
        return self._counts[2]
