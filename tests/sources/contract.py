"""What every source of llmwatch promises, as a suite that each one passes.

A source's own test module subclasses `SourceContract` and says how to call what it watches.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode

import llmwatch
from llmwatch.testing import capture


class SourceContract:
    """Subclass it, and give the four things below."""

    def call(self) -> Any:
        """Make one watched call and return its result, comparable with ``==``."""
        raise NotImplementedError

    def fail(self) -> Any:
        """Make one watched call that raises the library's own exception."""
        raise NotImplementedError

    def stream(self) -> Any:
        """Open one watched stream: an iterable."""
        raise NotImplementedError

    def patched(self) -> list[tuple[Any, str]]:
        """Owner and attribute of everything that the source patches."""
        raise NotImplementedError

    # --- the laws ------------------------------------------------------------------------------

    def test_results_are_the_same(self) -> None:
        """The result equals the unwatched one, and is of the same type."""
        plain = self.call()
        with capture() as seen:
            watched = self.call()
        assert watched == plain
        assert type(watched) is type(plain)
        assert len(seen.spans) == 1

    def test_exceptions_are_the_same(self) -> None:
        """Type, message and cause of an exception pass through; the span has its class."""
        with pytest.raises(Exception) as plain:  # noqa: PT011 - whatever the library raises
            self.fail()
        with capture() as seen, pytest.raises(plain.type) as watched:
            self.fail()
        assert watched.type is plain.type
        assert str(watched.value) == str(plain.value)
        assert type(watched.value.__cause__) is type(plain.value.__cause__)
        (span,) = seen.spans
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == plain.type.__qualname__

    def test_streams_are_of_the_same_type(self) -> None:
        """A stream's type, items and iterator protocol are the unwatched one's."""
        plain = self.stream()
        items = list(plain)
        with capture() as seen:
            watched = self.stream()
            assert type(watched) is type(plain)
            assert list(watched) == items
        assert len(seen.spans) == 1

    def test_signatures_are_the_same(self) -> None:
        """`inspect` sees what it saw before."""
        before = [_face(getattr(owner, name)) for owner, name in self.patched()]
        with capture():
            assert [_face(getattr(owner, name)) for owner, name in self.patched()] == before

    def test_undo_is_exact(self) -> None:
        """Every attribute is the very object that it was, or absent where it was absent."""
        before = [vars(owner).get(name) for owner, name in self.patched()]
        for _ in range(3):
            with capture():
                self.call()
        after = [vars(owner).get(name) for owner, name in self.patched()]
        assert all(now is then for now, then in zip(after, before, strict=True))

    def test_installing_twice_watches_once(self) -> None:
        """`instrument` with the same settings changes nothing."""
        with capture() as seen:
            again = {
                "tracer_provider": seen.tracer_provider,
                "meter_provider": seen.meter_provider,
                "logger_provider": seen.logger_provider,
            }
            before = [vars(owner).get(name) for owner, name in self.patched()]
            llmwatch.instrument(**again)
            after = [vars(owner).get(name) for owner, name in self.patched()]
            assert all(now is then for now, then in zip(after, before, strict=True))
            self.call()
        assert len(seen.spans) == 1

    def test_threads_are_kept_apart(self) -> None:
        """Calls from many threads give one span each, all with results of their own."""
        plain = self.call()
        with capture() as seen, ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: self.call(), range(40)))
        assert all(result == plain for result in results)
        assert len({span.context.span_id for span in seen.spans}) == 40

    def test_instrumenting_under_load_loses_no_result(self) -> None:
        """Threads that call while others instrument and undo get their results all the same."""
        plain, failures, stop = self.call(), [], threading.Event()

        def work() -> None:
            while not stop.is_set():
                if self.call() != plain:
                    failures.append("another result")

        with ThreadPoolExecutor(3) as pool:
            workers = [pool.submit(work) for _ in range(3)]
            for _ in range(15):
                with capture():
                    self.call()
            stop.set()
            for worker in workers:
                worker.result()
        assert failures == []

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(["instrument", "uninstrument", "call", "stream"]), max_size=8))
    def test_any_order_of_steps_keeps_results_and_undoes(self, steps: list[str]) -> None:
        """Instrument, undo, call and stream in any order: results stay, and nothing stays behind."""
        before = [vars(owner).get(name) for owner, name in self.patched()]
        plain, items = self.call(), list(self.stream())
        doing: dict[str, Callable[[], Any]] = {
            "instrument": lambda: llmwatch.instrument(metric_attributes=["route"], **_nowhere()),
            "uninstrument": llmwatch.uninstrument,
        }
        for step in steps:
            if step == "call":
                assert self.call() == plain
            elif step == "stream":
                assert list(self.stream()) == items
            else:
                doing[step]()
        llmwatch.uninstrument()
        after = [vars(owner).get(name) for owner, name in self.patched()]
        assert all(now is then for now, then in zip(after, before, strict=True))

    def test_a_stream_that_outlives_the_instrumentation_goes_on(self) -> None:
        """Undoing in the middle of a stream changes nothing for its consumer."""
        items = list(self.stream())
        with capture():
            iterator = iter(self.stream())
            first = next(iterator)
        assert [first, *iterator] == items


def _face(function: Any) -> tuple[Any, ...]:
    return (
        inspect.signature(function),
        function.__name__,
        function.__qualname__,
        function.__doc__,
        inspect.iscoroutinefunction(function),
    )


def _nowhere() -> dict[str, Any]:
    from opentelemetry import _logs, metrics, trace

    return {
        "tracer_provider": trace.NoOpTracerProvider(),
        "meter_provider": metrics.NoOpMeterProvider(),
        "logger_provider": _logs.NoOpLoggerProvider(),
    }
