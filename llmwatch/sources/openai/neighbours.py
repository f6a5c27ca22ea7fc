"""Recognise other instrumentations of OpenAI, so that no call is counted twice.

Asked at every call: a neighbour may be switched on or off at any time, and most wrap only some
methods of the client. So nothing is concluded from what is installed or which method was called:
a neighbour watches a call if its wrapper is on the stack of that call, or is what ours wraps.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple

from llmwatch.patching import Patch, Wrapper, when_imported

_log = logging.getLogger("llmwatch")


class Neighbour(NamedTuple):
    """Another instrumentation of OpenAI."""

    name: str
    """What its users call it."""
    package: str
    """Its wrappers live in this package."""
    loaded: str
    """A module that is imported by the time it wraps anything, and as late as possible."""
    disarmed: Callable[[], bool] = lambda: False
    """True if its wrappers, where they are still in place, only pass calls through."""


def _genai_openai_disarmed() -> bool:
    # Never instantiated here: making an instrumentor anew runs its __init__ over the live one.
    module = sys.modules["opentelemetry.instrumentation.genai.openai"]
    instrumentor = module.OpenAIInstrumentor._instance
    return instrumentor is None or not instrumentor.is_instrumented_by_opentelemetry


_OTEL = "opentelemetry.instrumentation"
_LOGFIRE = "logfire._internal.integrations.llm_providers"
NEIGHBOURS = (
    Neighbour(
        "opentelemetry-instrumentation-genai-openai",
        f"{_OTEL}.genai.openai",
        f"{_OTEL}.genai.openai",
        _genai_openai_disarmed,
    ),
    Neighbour(
        "opentelemetry-instrumentation-openai-v2", f"{_OTEL}.openai_v2", f"{_OTEL}.openai_v2"
    ),
    Neighbour("Traceloop (OpenLLMetry)", f"{_OTEL}.openai", f"{_OTEL}.openai.v1"),
    Neighbour(
        "OpenInference",
        "openinference.instrumentation.openai",
        "openinference.instrumentation.openai",
    ),
    Neighbour("Logfire", _LOGFIRE, f"{_LOGFIRE}.llm_provider"),
    Neighbour("OpenLIT", "openlit.instrumentation.openai", "openlit.instrumentation.openai"),
    Neighbour("Langfuse", "langfuse.openai", "langfuse.openai"),
)
"""Those whose spans go through OpenTelemetry. What reports elsewhere counts nothing twice."""

_loaded: list[ModuleType] = []
"""Of the modules above, those that this process has imported."""
for _neighbour in NEIGHBOURS:
    when_imported(_neighbour.loaded, _loaded.append)

_PREFIXES = tuple(f"{neighbour.package}." for neighbour in NEIGHBOURS)

_LOGFIRE_KEEPS = "_original_request_method"
_OPENINFERENCE_KEEPS = "OpenAIInstrumentor._instance._original_"


def patches(request: Wrapper, arequest: Wrapper) -> list[Patch]:
    """Rows that keep calls watched after a neighbour that was there first is gone.

    Such a neighbour keeps the client's own ``request`` from before ours, and puts it back over
    ours when it is switched off; so what it keeps is wrapped too.
    """
    client, openinference = "openai._client", "openinference.instrumentation.openai"
    return [
        Patch(client, f"OpenAI.{_LOGFIRE_KEEPS}", request, optional=True),
        Patch(client, f"AsyncOpenAI.{_LOGFIRE_KEEPS}", arequest, optional=True),
        Patch(openinference, f"{_OPENINFERENCE_KEEPS}request", request, optional=True),
        Patch(openinference, f"{_OPENINFERENCE_KEEPS}async_request", arequest, optional=True),
    ]


class Neighbours:
    """Tells which calls another instrumentation watches, and says so once for each.

    Args:
        alongside: Go on beside all of them; nothing is looked for then.
    """

    def __init__(self, alongside: bool) -> None:
        self._alongside = alongside
        self._told: set[str] = set()
        self._telling = Lock()

    def watching(self, client: Any, path: str, *, start: Any = None) -> str | None:
        """The neighbour that watches the call being made on this stack, if there is one.

        Args:
            client: The OpenAI client; None on a websocket.
            path: URL path of the call's route, for the log line.
            start: The method that will make the call, where that is still to be called.

        Cost: 0.1 µs while no neighbour is loaded; else about 0.2 µs for each frame of the stack.
        """
        if not _loaded or self._alongside:
            return None
        request = getattr(client, "request", None)
        neighbour = _first(_layers(request)) or _first(_layers(start)) or _first(_stack())
        if neighbour is None:
            return None
        self._tell(neighbour.name, path)
        return neighbour.name

    def _tell(self, name: str, path: str) -> None:
        with self._telling:
            if name in self._told:
                return
            self._told.add(name)
        _log.warning(
            "%s already watches OpenAI calls (first seen: %s), so llmwatch stands aside for every "
            "call that it watches, and watches the others. To have both, use "
            "llmwatch.instrument(alongside=True); to have only llmwatch, switch %s off.",
            name,
            path,
            name,
        )


def _first(modules: Iterator[str]) -> Neighbour | None:
    """The first of these modules that belongs to a neighbour which is awake."""
    for module in modules:
        if f"{module}.".startswith(_PREFIXES):
            for neighbour, prefix in zip(NEIGHBOURS, _PREFIXES, strict=True):
                if f"{module}.".startswith(prefix) and not neighbour.disarmed():
                    return neighbour
    return None


def _stack() -> Iterator[str]:
    """The modules of the functions that are being called, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back  # type: ignore[assignment]


def _layers(method: Any) -> Iterator[str]:
    """The modules of a method and of what it wraps, outermost first."""
    while method is not None:
        layer = getattr(method, "_self_wrapper", method)
        names = getattr(layer, "__globals__", None)
        yield type(layer).__module__ if names is None else names.get("__name__", "")
        method = getattr(method, "__wrapped__", None)
