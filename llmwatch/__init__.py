"""llmwatch: let any OpenTelemetry backend see inside a program that calls or runs language models.

    >>> import llmwatch
    >>> llmwatch.instrument()

Importing this package loads no instrumented library, no numpy, no SDK and no exporter: those come
with the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from llmwatch._version import __version__
from llmwatch.config import CaptureContent, Config, Settings
from llmwatch.errors import ConfigError, LlmwatchError, MissingExtraError

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.export.tail_sampling import TailSampling
    from llmwatch.signals.context import attributes, flag
    from llmwatch.signals.current import Current, current
    from llmwatch.snapshot import Resources, resources
    from llmwatch.sources.decorators import watch
    from llmwatch.sources.torch_layers.watcher import LayerWatcher, watch_layers

__all__ = [
    "CaptureContent",
    "Config",
    "ConfigError",
    "Current",
    "DriftMonitor",
    "LayerWatcher",
    "LlmwatchError",
    "MissingExtraError",
    "Resources",
    "TailSampling",
    "__version__",
    "attributes",
    "current",
    "flag",
    "flush",
    "instrument",
    "resources",
    "shutdown",
    "uninstrument",
    "watch",
    "watch_layers",
]

_LAZY = {
    "DriftMonitor": "llmwatch.drift.monitor",
    "Resources": "llmwatch.snapshot",
    "TailSampling": "llmwatch.export.tail_sampling",
    "attributes": "llmwatch.signals.context",
    "flag": "llmwatch.signals.context",
    "resources": "llmwatch.snapshot",
    "Current": "llmwatch.signals.current",
    "current": "llmwatch.signals.current",
    "watch": "llmwatch.sources.decorators",
    "LayerWatcher": "llmwatch.sources.torch_layers.watcher",
    "watch_layers": "llmwatch.sources.torch_layers.watcher",
}


def instrument(**settings: Unpack[Settings]) -> None:
    """Watch every supported library in this process, and send what is seen.

    Safe to call from any thread, before or after the libraries are imported and clients are
    built. Calling it again with the same settings changes nothing; with others, the first
    instrumentation is undone and a new one takes its place.

    Args:
        **settings: See `Config` for each setting, its environment variable and its default.

    Raises:
        ConfigError: If a setting cannot be used; the message names it and the remedy.
        MissingExtraError: If something asked for by name is not installed.
    """
    from llmwatch import session

    session.instrument(**settings)


def uninstrument() -> None:
    """Undo `instrument` exactly: every patch, hook, thread and signal handler.

    What was seen so far is flushed within ``flush_timeout``. Does nothing where nothing is
    instrumented.
    """
    from llmwatch import session

    session.uninstrument()


def flush(timeout: float | None = None) -> bool:
    """Send what was seen so far, and wait for it no longer than *timeout*.

    Args:
        timeout: Seconds; None: the setting ``flush_timeout``.

    Returns:
        True if everything was delivered in time.
    """
    from llmwatch import session

    return session.flush(timeout)


def shutdown(timeout: float | None = None) -> bool:
    """`uninstrument`, taking no longer than *timeout* for the last flush.

    Args:
        timeout: Seconds; None: the setting ``flush_timeout``.

    Returns:
        True if everything was delivered in time.
    """
    from llmwatch import session

    return session.shutdown(timeout)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'llmwatch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
