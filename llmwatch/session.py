"""Wire everything: settings → providers → signals → sources; undo in reverse order.

There is at most one session in a process. `instrument` while one exists changes nothing, unless
the settings differ: then the old one is undone first.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from functools import partial
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Unpack

from opentelemetry.trace import Tracer

from llmwatch import semconv
from llmwatch._clash import warn_of_clash
from llmwatch._version import __version__
from llmwatch.config import Config, Settings
from llmwatch.errors import ConfigError
from llmwatch.export.dropped import left_out_counts, told_counts
from llmwatch.export.pipeline import Pipeline
from llmwatch.export.providers import Providers
from llmwatch.patching import Late
from llmwatch.signals import active
from llmwatch.signals.cost import load as load_prices
from llmwatch.signals.drift import Alarms
from llmwatch.signals.drift_feed import Feed
from llmwatch.signals.events import Events
from llmwatch.signals.metrics import Metrics
from llmwatch.signals.observed import Observation
from llmwatch.signals.operation import Signals

if TYPE_CHECKING:
    from llmwatch.export.program_logs import ProgramLogs
    from llmwatch.signals.drift_numbers import Numbers

SOURCES = {
    "openai": "llmwatch.sources.openai.source",
    "gpu": "llmwatch.sources.gpu.source",
    "process": "llmwatch.sources.process.source",
    "transformers": "llmwatch.sources.transformers.source",
    "layers": "llmwatch.sources.torch_layers.source",
    "sentence_transformers": "llmwatch.sources.sentence_transformers.source",
}
"""Name of each source, and the module whose ``install(signals)`` starts it."""

LATE = ("openai", "transformers", "sentence_transformers")
"""Sources that start when the library of their name is imported: their own modules take 2 to 10 ms
to load."""


class Session:
    """One instrumented process: what was built, and how to undo it.

    Args:
        config: Validated settings.

    Raises:
        ConfigError: If a setting turns out to be unusable; nothing stays installed then.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        for name in self._sources():
            if name not in SOURCES:
                known = ", ".join(map(repr, SOURCES))
                raise ConfigError(f"sources={name!r} cannot be used: give some of {known}.")
        self._feeds: list[Feed | Numbers] = []
        if config.drift:
            self._feeds.append(_feed(config))
        if config.drift_numbers:
            from llmwatch.signals.drift_numbers import Numbers

            self._feeds.append(Numbers(config.drift_numbers, config.drift_key))
        self.pipeline = Pipeline(config)
        self._built = built = self.pipeline.providers
        self.metrics = self._count(built)
        self.signals = Signals(config, _tracer(built), self.metrics, _events(config, built))
        expected = _leaves_out(config) if "traces" in built.owned else ()
        self.signals.observe(semconv.OWN_METRICS["left_out"], partial(_left_out, expected))
        if config.console:
            from llmwatch.export.console import Console

            self.signals.listeners += (Console(),)
        self._logs: ProgramLogs | None = None
        if config.logs is not None:
            from llmwatch.export.program_logs import ProgramLogs

            self._logs = ProgramLogs(config.logs, built)
        self._undo: list[Callable[[], object]] = []

    def install(self) -> None:
        """Start watching."""
        self.pipeline.on_change(self._rewire)
        self.pipeline.on_fork(self._forked)
        self.pipeline.on_flush(self._fold)
        self.pipeline.on_end(self.signals.abandon_all)
        self.pipeline.install()
        if self._logs is not None:
            self._logs.install()
            self._undo.append(self._logs.undo)
        if self.config.cost:
            load_prices()
        gc.callbacks.append(self.signals.on_collection)
        active.signals = self.signals
        self._undo.append(Alarms(self.signals).undo)
        for feed in self._feeds:
            feed.install(self.signals)
            self._undo.append(feed.undo)
        for name in self._sources():
            if name in LATE:
                late = Late(name, partial(_start, name, self.signals))
                self._undo.append(late.undo)
                late.install()
            else:
                self._undo.append(_start(name, self.signals))

    def flush(self, timeout: float) -> bool:
        """Hand over everything seen so far, within *timeout* seconds; True if it all went."""
        return self.pipeline.flush(timeout)

    def undo(self, timeout: float) -> bool:
        """Stop watching and hand over the rest, within *timeout* seconds; True if it all went."""
        deadline = monotonic() + timeout
        active.signals = None
        if self.signals.on_collection in gc.callbacks:
            gc.callbacks.remove(self.signals.on_collection)
        while self._undo:
            self._undo.pop()()
        self.signals.abandon_all()
        self.pipeline.release()
        # The readers must collect while our counts are still at their door.
        done = self.flush(timeout)
        self._feeds.clear()  # their monitors were to be collected until now
        self.metrics.close()
        self.signals.close()
        return self.pipeline.undo(max(deadline - monotonic(), 0.0)) and done

    def _fold(self) -> None:
        self.signals.finish_late()
        if self.signals.holder is not None:
            self.signals.holder.release()
        for feed in self._feeds:
            feed.flush()
        self.metrics.flush()

    def _sources(self) -> tuple[str, ...]:
        return tuple(SOURCES) if self.config.sources is None else self.config.sources

    def _count(self, built: Providers) -> Metrics:
        metrics = Metrics(self.config, built.meter_provider)
        metrics.watch_dropped(told_counts)
        return metrics

    def _rewire(self, built: Providers) -> None:
        old, before = self.metrics, self._built
        self._built = built
        if built.meter_provider is not before.meter_provider:  # else its readers would lose counts
            self.metrics = self._count(built)
        if self._logs is not None:
            self._logs.rewire(built)
        self.signals.rewire(_tracer(built), self.metrics, _events(self.config, built))
        if old is not self.metrics:
            old.close()

    def _forked(self) -> None:
        global _lock
        _lock = RLock()
        self.metrics.reset()
        for feed in self._feeds:
            feed.reset()
        self.signals.live.clear()


def _start(name: str, signals: Signals) -> Callable[[], object]:
    """Start a source; what undoes it."""
    undo: Callable[[], object] = importlib.import_module(SOURCES[name]).install(signals).undo
    return undo


def _leaves_out(config: Config) -> tuple[str, ...]:
    """What may leave spans out."""
    by_rule = () if config.keep is None else ("keep", "overflow")
    return by_rule if config.trace_limit is None else (*by_rule, "trace_limit")


def _left_out(expected: tuple[str, ...]) -> list[Observation]:
    # With zeros: the first rise of a sum that was not there before would not be seen.
    counts = {**dict.fromkeys(expected, 0), **left_out_counts()}
    return [Observation(many, {semconv.LEFT_OUT_BY: by}) for by, many in counts.items()]


def _tracer(built: Providers) -> Tracer:
    return built.tracer_provider.get_tracer(
        semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_URL
    )


def _feed(config: Config) -> Feed:
    return Feed(config.drift, config.drift_sample, config.drift_key, config.drift_pooling)


def _events(config: Config, built: Providers) -> Events:
    return Events(config, built.logger_provider)


_lock = RLock()
_session: Session | None = None


def current() -> Session | None:
    """The session of this process, if it is instrumented."""
    return _session


def instrument(**settings: Unpack[Settings]) -> None:
    """See `llmwatch.instrument`."""
    global _session
    config = Config.load(**settings)
    warn_of_clash()
    with _lock:
        if _session is not None and _session.config == config:
            return
        uninstrument()
        session = Session(config)
        try:
            session.install()
        except BaseException:
            session.undo(0.0)
            raise
        _session = session


def uninstrument() -> None:
    """See `llmwatch.uninstrument`."""
    shutdown(None)


def flush(timeout: float | None) -> bool:
    """See `llmwatch.flush`."""
    session = _session
    if session is None:
        return True
    return session.flush(session.config.flush_timeout if timeout is None else timeout)


def shutdown(timeout: float | None) -> bool:
    """See `llmwatch.shutdown`."""
    global _session
    with _lock:
        session, _session = _session, None
        if session is None:
            return True
        return session.undo(session.config.flush_timeout if timeout is None else timeout)
