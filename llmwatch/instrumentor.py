"""llmwatch as OpenTelemetry loads it: by ``opentelemetry-instrument``, distributions, and files.

Any error but ImportError that is raised here would keep all instrumentations that come after from
being loaded. So nothing is: what cannot be used is one line in the log, and llmwatch stays off.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import make_dataclass
from typing import Any, get_type_hints

# Its module is one big `type: ignore`, so that mypy sees nothing in it.
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

import llmwatch
from llmwatch._guard import Guard
from llmwatch.config import OBJECTS, Settings

_log = logging.getLogger("llmwatch")

_INSTRUMENT = Guard("instrumentor.instrument")
_UNINSTRUMENT = Guard("instrumentor.uninstrument")

Configuration = make_dataclass(
    "Configuration",
    [(name, kind, None) for name, kind in get_type_hints(Settings).items() if name not in OBJECTS],
    namespace={
        "__module__": __name__,
        "__doc__": "The keys that ``llmwatch:`` has in a declarative configuration file.",
    },
    kw_only=True,
)


class LlmwatchInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Call `llmwatch.instrument` and `llmwatch.uninstrument` on behalf of OpenTelemetry."""

    configuration = Configuration
    """Which options a declarative configuration file may give; None is a setting not given."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """No package must be there: each source waits for the library it watches."""
        return ()

    def _instrument(self, **settings: Any) -> None:
        with _INSTRUMENT:
            try:
                llmwatch.instrument(**settings)
            except llmwatch.LlmwatchError as error:
                _log.error("llmwatch is off: %s", error)

    def _uninstrument(self, **_: Any) -> None:
        with _UNINSTRUMENT:
            llmwatch.uninstrument()
