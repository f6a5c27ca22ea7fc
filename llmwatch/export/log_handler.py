"""Turn records of `logging` into OpenTelemetry's, by OpenTelemetry's own handler.

Only its translation is used: put on the root logger, as its instrumentation does, it would keep
`logging.basicConfig` from doing anything, and it cannot be taken away without a trace.
"""

from __future__ import annotations

from llmwatch.errors import MissingExtraError

try:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
except ModuleNotFoundError:
    raise MissingExtraError("opentelemetry-instrumentation-logging", "logging") from None


class Handler(LoggingHandler):
    """OpenTelemetry's handler; it is flushed where the provider is, not by `logging` at exit."""

    def flush(self) -> None:
        """Do nothing: theirs starts a thread, which no longer starts at exit."""
