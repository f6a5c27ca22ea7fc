"""The providers in force, and what replaces them while the process lives.

Two things do: the application sets a global provider after `instrument`, and is followed; or the
process forks. In a child the providers of spans and events go on (the SDK empties their queues,
and `delivery` gives them an exporter of their own), but a meter provider holds its parent's sums:
it is silenced, and the child's first operation builds a fresh one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from threading import RLock
from time import monotonic
from typing import Any

from opentelemetry import metrics, trace

from llmwatch import _guard
from llmwatch._guard import Guard
from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export import builders, dropped, global_providers, providers
from llmwatch.export.bounded import Call, wait
from llmwatch.export.dropped import Signal
from llmwatch.export.lifecycle import ProcessEnd, on_fork
from llmwatch.export.providers import Providers

FOLLOW_WAIT = 1.0
"""Seconds that the application's own `set_meter_provider` may be held up by the last collection."""

_log = logging.getLogger("llmwatch")
_CALLBACK = Guard("export.callback")
_REBUILD = Guard("export.rebuild")


class Pipeline:
    """Builds the providers that *config* asks for, and keeps them right until `undo`.

    Args:
        config: The settings.

    Raises:
        ConfigError: If an exporter, protocol or endpoint that was asked for cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._providers = providers.build(config)
        self._asleep: Providers | None = None
        self._undone = False
        self._closing: list[Call] = []
        self._lock = RLock()
        self._on_change: list[Callable[[Providers], object]] = []
        self._on_fork: list[Callable[[], object]] = []
        self._on_flush: list[Callable[[], object]] = []
        self._on_end: list[Callable[[], object]] = []
        self._patches = global_providers.followed(self._follow)
        self._end = ProcessEnd(self._finish, sigterm=config.handle_sigterm)
        self._undo_fork: Callable[[], None] | None = None

    @property
    def providers(self) -> Providers:
        """The providers in force; in a forked child this builds what it needs."""
        if self._asleep is not None:
            self._wake()
        return self._providers

    def on_change(self, callback: Callable[[Providers], object]) -> None:
        """Call *callback* with the new providers whenever one is replaced."""
        self._on_change.append(callback)

    def on_fork(self, callback: Callable[[], object]) -> None:
        """Call *callback* in a forked child, to drop inherited state; it must not block."""
        self._on_fork.append(callback)

    def on_flush(self, callback: Callable[[], object]) -> None:
        """Call *callback* before each flush, to hand to the providers what waits elsewhere."""
        self._on_flush.append(callback)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call *callback* when the process ends, before the last flush.

        It runs on a thread of its own: a signal may have come while this one held a lock.
        """
        self._on_end.append(callback)

    def install(self) -> None:
        """Watch the global providers, forks, and the end of the process."""
        if self.config.set_global:
            for signal in self._providers.owned:
                global_providers.set_ours(signal, self._providers.of(signal))
        self._patches.install()
        self._undo_fork = on_fork(self._forked)
        self._end.install()

    def release(self) -> None:
        """Wait no longer for the end of traces of which nobody knows yet whether to keep them."""
        if (loaded := sys.modules.get("llmwatch.export.tail_sampling")) is not None:
            _call(self._on_flush)  # what waits elsewhere may be what they are kept for
            loaded.release_ours()

    def flush(self, timeout: float) -> bool:
        """Hand over what is queued within *timeout* seconds; True if all of it was."""
        deadline = monotonic() + timeout
        _call(self._on_flush)
        done = self._providers.flush(timeout)
        return wait(self._closing, deadline) and done

    def undo(self, timeout: float | None = None) -> bool:
        """Stop watching, and close what llmwatch built, within *timeout* seconds.

        Doing it twice changes nothing.

        Returns:
            True if all that was queued was handed over.
        """
        if self._undone:
            return True
        self._undone = True
        timeout = self.config.flush_timeout if timeout is None else timeout
        deadline = monotonic() + timeout
        self._patches.undo()
        self._end.undo()
        if self._undo_fork is not None:
            self._undo_fork()
        built = self._asleep or self._providers
        for signal in built.owned:
            global_providers.replace_ours(signal, built.of(signal), None)
        done = self._providers.shutdown(timeout)
        return wait(self._closing, deadline) and done

    def _finish(self) -> None:
        """At the end of the process: all that is queued leaves, and nothing outlasts the bound."""
        deadline = monotonic() + self.config.flush_timeout
        calls = [Call(callback) for callback in self._on_end]
        for call in calls:
            call.start()
        wait(calls, deadline)
        self.release()
        self.flush(max(deadline - monotonic(), 0.0))

    def _announce(self) -> None:
        for callback in tuple(self._on_change):
            with _CALLBACK:
                callback(self._providers)

    def _follow(self, signal: Signal) -> None:
        theirs = global_providers.get(signal)
        if not self._replaceable(signal, theirs):
            return
        if signal == "metrics":  # what is not collected yet is for the readers of the old one
            self.flush(FOLLOW_WAIT)
        with self._lock:
            if not self._replaceable(signal, theirs):  # another thread was first
                return
            current = self._providers
            ours = current.of(signal)
            kept = (*current.retired, ours) if signal != "metrics" else current.retired
            self._providers = current.having(
                signal, theirs, owned=current.owned - {signal}, retired=kept
            )
        providers.say_unused(self.config, signal, providers.GLOBAL, tuple(providers.ABOUT))
        self._announce()
        # Sums would be reported twice; spans in flight still have to end somewhere.
        self._in_background(ours.shutdown if signal == "metrics" else ours.force_flush)

    def _replaceable(self, signal: Signal, provider: Any) -> bool:
        current = self.providers
        if provider is None or signal not in current.owned:
            return False
        return current.of(signal) is not provider

    def _in_background(self, function: Callable[[], object]) -> None:
        self._closing = [call for call in self._closing if call.is_alive()]
        call = Call(function)
        self._closing.append(call)
        call.start()

    def _forked(self) -> None:
        self._lock = RLock()
        self._closing = []
        _guard.reset()
        dropped.losses.reset()
        dropped.left_out.reset()
        _call(self._on_fork)
        self._end.forked()
        if self._asleep is None and "metrics" in self._providers.owned:
            self._asleep = self._providers
            self._providers = self._sleeping(self._providers)
            self._announce()

    def _sleeping(self, real: Providers) -> Providers:
        silent = real.having("metrics", metrics.NoOpMeterProvider())
        return silent.having("traces", _Sleeping(self, real.tracer_provider))

    def _wake(self) -> None:
        with self._lock:
            if (awake := self._asleep) is None:  # another thread was first
                return
            fresh = self._fresh_meter_provider(awake.meter_provider)
            self._providers, self._asleep = awake.having("metrics", fresh), None
        self._announce()

    def _fresh_meter_provider(self, inherited: Any) -> metrics.MeterProvider:
        # Silent, but its thread would go on collecting. Never waited for: it may be stuck for good
        # on a lock that a thread of the parent held.
        Call(inherited.shutdown).start()
        with _REBUILD:
            try:
                fresh = builders.build_meter_provider(self.config)
            except ConfigError as error:
                _log.warning("llmwatch reports no metrics of this forked process: %s", error)
            else:
                global_providers.replace_ours("metrics", inherited, fresh)
                return fresh
        return metrics.NoOpMeterProvider()


def _call(callbacks: list[Callable[[], object]]) -> None:
    for callback in tuple(callbacks):
        with _CALLBACK:
            callback()


class _Sleeping(trace.TracerProvider):
    """The tracer provider of a forked child that has not done anything yet."""

    def __init__(self, pipeline: Pipeline, real: Any) -> None:
        self._pipeline = pipeline
        self._real = real

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return _SleepingTracer(self._pipeline, args, kwargs)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._real.force_flush(timeout_millis) is not False

    def shutdown(self) -> None:
        self._real.shutdown()


class _SleepingTracer(trace.Tracer):
    """Wakes the pipeline with its first span, and hands over to the tracer that it then gets."""

    def __init__(
        self, pipeline: Pipeline, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._pipeline = pipeline
        self._args = args
        self._kwargs = kwargs

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        return self._tracer().start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return self._tracer().start_as_current_span(*args, **kwargs)

    def _tracer(self) -> trace.Tracer:
        return self._pipeline.providers.tracer_provider.get_tracer(*self._args, **self._kwargs)
