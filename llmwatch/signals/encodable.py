"""Text that every exporter can encode.

A server's JSON, a file's name or a URL may hold a lone surrogate, for which UTF-8 has no bytes. One
in an attribute of a metric makes Prometheus' whole page unreadable for as long as the process lives,
and the SDK leave it out of OTLP, so that two series would look the same.
"""

from __future__ import annotations

from typing import Any


def encodable(value: Any) -> Any:
    """Text with question marks for what cannot be encoded; anything else as it is.

    Cost: 0.1 µs where it is ASCII.
    """
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value
