"""The real instrumentations of OpenAI that llmwatch may meet, each switched on and off its own way.

Only those that are installed can be met; each needs an environment of its own, because several
own the same entry point, and some only work with older clients.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import wrapt
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Peer:
    """One neighbour, and the spans that it makes.

    Attributes:
        name: What llmwatch calls it.
        module: What it is imported as.
        stops: False if it goes on recording after it was switched off.
        silent: Synchronous calls that it counts without making a span.
    """

    name: str
    module: str
    stops = True
    silent: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What it has seen."""
        return self.exporter.get_finished_spans()

    def on(self) -> None:
        """Switch it on."""
        self._instrumentor().instrument(tracer_provider=self.provider)

    def off(self) -> None:
        """Switch it off."""
        self._instrumentor().uninstrument()

    def remove(self) -> None:
        """Switch it off, and take away what it leaves behind, so that the next test begins anew."""
        self.off()
        for name, module in list(sys.modules.items()):
            if name.startswith("openai.resources"):
                for kind in list(vars(module).values()):
                    if isinstance(kind, type):
                        _strip(kind, self.module)

    def _instrumentor(self) -> Any:
        return import_module(self.module).OpenAIInstrumentor()


def _strip(kind: type, package: str) -> None:
    for name, method in list(vars(kind).items()):
        below = method
        while isinstance(below, wrapt.FunctionWrapper) and _is_of(below, package):
            below = below.__wrapped__
        if below is not method:
            setattr(kind, name, below)


def _is_of(method: Any, package: str) -> bool:
    wrapper = method._self_wrapper
    return str(getattr(wrapper, "__module__", "")).startswith(package)


class GenAIOpenAI(Peer):
    """OpenTelemetry's own, the newer."""

    name = "opentelemetry-instrumentation-genai-openai"
    module = "opentelemetry.instrumentation.genai.openai"


class OpenAIV2(Peer):
    """OpenTelemetry's own, the older."""

    name = "opentelemetry-instrumentation-openai-v2"
    module = "opentelemetry.instrumentation.openai_v2"


class Traceloop(Peer):
    """OpenLLMetry; its ``uninstrument`` finds none of its wrappers."""

    name = "Traceloop (OpenLLMetry)"
    module = "opentelemetry.instrumentation.openai"
    stops = False
    silent = ("image",)


class OpenInference(Peer):
    """Arize's; it wraps the client's ``request``."""

    name = "OpenInference"
    module = "openinference.instrumentation.openai"


class Logfire(Peer):
    """Pydantic's; it replaces ``request`` of the client classes, or of one client."""

    name = "Logfire"
    module = "logfire"

    def __init__(self, client: Any = None) -> None:
        super().__init__()
        self._client = client
        self._active: AbstractContextManager[None] | None = None

    def on(self) -> None:
        import logfire

        instance = logfire.configure(
            local=True,
            send_to_logfire=False,
            console=False,
            additional_span_processors=[SimpleSpanProcessor(self.exporter)],
        )
        self._active = instance.instrument_openai(
            self._client, suppress_other_instrumentation=False
        )

    def off(self) -> None:
        if self._active is not None:
            with self._active:
                self._active = None


class OpenLIT(Peer):
    """OpenLIT; it takes the global provider, and its ``uninstrument`` does nothing."""

    name = "OpenLIT"
    stops = False
    module = "openlit.instrumentation.openai"
    _one: Peer | None = None

    def on(self) -> None:
        from openlit._config import OpenlitConfig
        from opentelemetry import trace

        OpenlitConfig.reset_to_defaults()
        if OpenLIT._one is None:
            OpenLIT._one = self
            trace.set_tracer_provider(self.provider)
        self.exporter = OpenLIT._one.exporter
        self._instrumentor().instrument(disable_metrics=True)


class Langfuse(Peer):
    """Langfuse's drop-in module; importing it is what switches it on, for good."""

    name = "Langfuse"
    module = "langfuse.openai"
    stops = False
    _one: Peer | None = None

    def __init__(self) -> None:
        super().__init__()
        if Langfuse._one is None:  # its client is one for each process, and so is its provider
            from langfuse import Langfuse as Client

            Client(
                public_key="pk-test",
                secret_key="sk-test",
                base_url="http://127.0.0.1:9",
                tracer_provider=self.provider,
            )
            Langfuse._one = self
        self.exporter = Langfuse._one.exporter
        self.exporter.clear()

    def on(self) -> None:
        import_module(self.module)

    def off(self) -> None:
        sys.modules.pop(self.module, None)


PEERS = (GenAIOpenAI, OpenAIV2, Traceloop, OpenInference, Logfire, OpenLIT, Langfuse)


def installed() -> list[type[Peer]]:
    """The peers of this environment."""
    return [peer for peer in PEERS if _found(peer.module)]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
