"""The OpenTelemetry API's global providers: look at them, set ours, follow the application's.

The API's own ``get_*_provider`` would configure itself from the environment when asked, and a
global provider can be set only once. So this reads, and where ours must be undone resets, the
API's module variables: private ones, each behind a default or the guard.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from llmwatch._guard import Guard
from llmwatch.export.dropped import SIGNALS, Signal
from llmwatch.patching import Patch, Patches, Wrapper


class _Place(NamedTuple):
    module: str
    variable: str
    once: str
    setter: str
    """What ``set_*_provider`` and configuration from the environment both go through."""


_PLACES: dict[Signal, _Place] = {
    "traces": _Place(
        "opentelemetry.trace",
        "_TRACER_PROVIDER",
        "_TRACER_PROVIDER_SET_ONCE",
        "_set_tracer_provider",
    ),
    "metrics": _Place(
        "opentelemetry.metrics._internal",
        "_METER_PROVIDER",
        "_METER_PROVIDER_SET_ONCE",
        "_set_meter_provider",
    ),
    "logs": _Place(
        "opentelemetry._logs._internal",
        "_LOGGER_PROVIDER",
        "_LOGGER_PROVIDER_SET_ONCE",
        "_set_logger_provider",
    ),
}
_FOLLOW = Guard("export.follow")


def get(signal: Signal) -> Any:
    """The global provider that somebody set, or None."""
    place = _PLACES[signal]
    return getattr(sys.modules.get(place.module), place.variable, None)


def set_ours(signal: Signal, provider: Any) -> None:
    """Make *provider* the global one, unless there is one."""
    place = _PLACES[signal]
    getattr(sys.modules[place.module], place.setter)(provider, False)


def replace_ours(signal: Signal, ours: Any, provider: Any) -> None:
    """Where *ours* is the global provider, put *provider* there; None: as if none was ever set."""
    if get(signal) is not ours:
        return
    place = _PLACES[signal]
    module = sys.modules[place.module]
    setattr(module, place.variable, provider)
    if provider is None:
        from opentelemetry.util._once import Once

        setattr(module, place.once, Once())
    if signal == "metrics":
        _repoint(module._PROXY_METER_PROVIDER, provider)


def _repoint(proxy: Any, provider: Any) -> None:
    """Instruments that were made before there was a global provider go to this one."""
    if provider is not None:
        proxy.on_set_meter_provider(provider)
    else:
        proxy._real_meter_provider = None


def followed(callback: Callable[[Signal], None]) -> Patches:
    """Patches that call *callback* after somebody tried to set a global provider."""
    return Patches(
        "OpenTelemetry's global providers",
        [
            Patch(_PLACES[signal].module, _PLACES[signal].setter, _after(signal, callback))
            for signal in SIGNALS
        ],
    )


def _after(signal: Signal, callback: Callable[[Signal], None]) -> Wrapper:
    def wrapper(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        with _FOLLOW:
            callback(signal)
        return result

    return wrapper
