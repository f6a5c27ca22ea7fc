"""Which traces are kept: by rule, whole, within bounds, and every other span is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import StatusCode

from llmwatch import TailSampling, semconv
from llmwatch.errors import ConfigError
from llmwatch.export import dropped, tail_sampling
from llmwatch.keep import Keep, parse

OPERATION = {semconv.OPERATION_NAME: "chat"}


class Traces:
    """A provider that samples tails, and what it passed on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.sampling = TailSampling(SimpleSpanProcessor(self.exporter), *args, **kwargs)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.sampling)
        self.tracer = self.provider.get_tracer("tests")

    def span(self, name: str, parent: Any = None, seconds: float = 0.0, **attributes: Any) -> None:
        """One span that takes so long."""
        context = None if parent is None else trace.set_span_in_context(parent)
        span = self.tracer.start_span(name, context, attributes=attributes, start_time=1)
        span.end(1 + round(seconds * 1e9))

    @property
    def kept(self) -> dict[str, Any]:
        """Why each span that was passed on was kept, by name."""
        return {each.name: (each.attributes or {}).get(semconv.KEPT) for each in self.spans}

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def start() -> Iterator[Any]:
    made: list[Traces] = []

    def traces(*args: Any, **kwargs: Any) -> Traces:
        made.append(Traces(*args, **kwargs))
        return made[-1]

    yield traces
    for each in made:
        each.provider.shutdown()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("errors", Keep(errors=True)),
        (" errors, slow > 5s ,5%", Keep(errors=True, slow=5, share=0.05)),
        ("slow>500ms,ttft>2m,flagged", Keep(slow=0.5, ttft=120, flagged=True)),
        ("cost>0.1,slow>1.5", Keep(cost=0.1, slow=1.5)),
        ("0.1%", Keep(share=0.001)),
    ],
)
def test_rules_are_understood(text: str, wanted: Keep) -> None:
    assert parse(text) == wanted
    assert repr(parse(text)) == repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "error",
        "slow",
        "slow>5 parsecs",
        "slow<5s",
        "slow>1.2.3",
        "cost>0.1s",
        "150%",
        "-1%",
        "5",
        "errors,errors",
        ",",
    ],
)
def test_what_is_no_rule_is_told(text: str) -> None:
    """With the part that is wrong, and rules that are right."""
    with pytest.raises(ConfigError, match=f"^keep={text!r} cannot be used: .*give"):
        TailSampling(SimpleSpanProcessor(InMemorySpanExporter()), text)


RULES = "errors,flagged,slow>5s,ttft>2s,cost>0.1"


@pytest.mark.parametrize(
    ("why", "seconds", "attributes"),
    [
        ("flagged", 0, {semconv.FLAGGED: True}),
        ("slow", 5.1, OPERATION),
        ("ttft", 3, {**OPERATION, semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 2.5}),
        ("ttft", 3, {**OPERATION, "llmwatch.generation.time_to_first_token": 2.5}),
        ("cost", 0, {**OPERATION, semconv.COST: 0.11}),
        (None, 4.9, OPERATION),
        (None, 60, {}),
        (None, 3, {**OPERATION, semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 1.5}),
        (None, 0, {semconv.FLAGGED: False}),
    ],
)
def test_a_rule_that_holds_for_a_span_keeps_its_whole_trace(
    start: Any, why: str | None, seconds: float, attributes: dict[str, Any]
) -> None:
    """What ended before it, what ends after it, and the root; each says why."""
    traces = start(RULES)
    with traces.tracer.start_as_current_span("root") as root:
        traces.span("before", root)
        traces.span("it", root, seconds, **attributes)
        traces.span("after", root)
    names = ["before", "it", "after", "root"]
    assert traces.kept == (dict.fromkeys(names, why) if why else {})
    assert dropped.left_out_counts() == ({} if why else {"keep": 4})


def test_an_error_anywhere_keeps_the_trace(start: Any) -> None:
    traces = start(RULES)
    with suppress(KeyError), traces.tracer.start_as_current_span("root"):
        traces.span("child", trace.get_current_span())
        raise KeyError
    assert traces.kept == {"child": "errors", "root": "errors"}
    assert traces.spans[-1].status.status_code is StatusCode.ERROR


def test_costs_of_a_trace_add_up(start: Any) -> None:
    traces = start("cost>0.1")
    with traces.tracer.start_as_current_span("root") as root:
        for number in range(4):
            traces.span(f"call {number}", root, **{semconv.COST: 0.03})
        assert len(traces.spans) == 4
    assert len(traces.kept) == 5


READ = [
    "name", "context", "parent", "resource", "events", "links", "kind", "status", "start_time",
    "end_time", "instrumentation_scope", "dropped_attributes", "dropped_events", "dropped_links",
]  # fmt: skip


def test_what_is_passed_on_is_what_ended(start: Any) -> None:
    """But for the one attribute: whatever an exporter reads of a span is the same."""
    traces = start("flagged")
    plain = InMemorySpanExporter()
    traces.provider.add_span_processor(SimpleSpanProcessor(plain))
    with traces.tracer.start_as_current_span(
        "root", links=[trace.Link(trace.INVALID_SPAN_CONTEXT)]
    ):
        span = trace.get_current_span()
        span.set_attributes({f"key {number}": number for number in range(200)})
        span.add_event("something", {"a": 1})
        span.set_attribute(semconv.FLAGGED, True)
    (kept,), (ended,) = traces.spans, plain.get_finished_spans()
    attributes = dict(kept.attributes or {})
    assert attributes.pop(semconv.KEPT) == "flagged"
    assert attributes == ended.attributes
    for name in READ:
        assert getattr(kept, name) == getattr(ended, name)
    assert kept.dropped_attributes == 73


def test_the_share_is_the_samplers(start: Any) -> None:
    """A process that samples the same share at the head keeps the same traces."""
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    keep, sampler, ids = parse("7%"), TraceIdRatioBased(0.07), RandomIdGenerator()
    found = [ids.generate_trace_id() for _ in range(2000)]
    kept = [keep.holds_share(each) for each in found]
    assert kept == [sampler.should_sample(None, each, "x").decision.is_sampled() for each in found]
    assert 80 < sum(kept) < 210
    assert not parse("0%").holds_share(0)
    assert all(parse("100%").holds_share(each) for each in found)


def test_a_share_waits_for_nothing(start: Any) -> None:
    traces = start("100%")
    with traces.tracer.start_as_current_span("root") as root:
        traces.span("child", root)
        assert traces.kept == {"child": "share"}
    assert traces.kept == {"child": "share", "root": "share"}


def test_a_child_that_outlives_its_root_counts(start: Any) -> None:
    """A trace is over when all of it is that began before that."""
    traces = start("errors")
    with traces.tracer.start_as_current_span("root") as root:
        late = traces.tracer.start_span("late", trace.set_span_in_context(root))
    assert not traces.spans
    late.set_status(StatusCode.ERROR)
    late.end()
    assert traces.kept == {"root": "errors", "late": "errors"}


def test_what_comes_after_the_end_follows_what_was_decided(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do layers that were timed: their spans are made when their operation has long ended."""
    monkeypatch.setattr(tail_sampling, "monotonic", lambda: 0.0)
    traces = start("errors", 1)
    for name in ("kept", "too many", "boring"):
        root = traces.tracer.start_span(name)
        if name != "boring":
            root.set_status(StatusCode.ERROR)
        root.end()
        traces.span(f"{name}: layer", root)
        traces.span(f"{name}: another", root)
    assert traces.kept == dict.fromkeys(["kept", "kept: layer", "kept: another"], "errors")
    assert dropped.left_out_counts() == {"trace_limit": 3, "keep": 3}


def test_decided_traces_are_forgotten_in_the_end(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_sampling, "MOST_TRACES", 5)
    traces = start("100%")
    for number in range(20):
        traces.span(str(number))
    assert len(traces.spans) == 20
    assert len(traces.sampling._over) == 5


def test_a_trace_that_was_decided_stays_so_when_there_are_too_many(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it still does is sent, too."""
    monkeypatch.setattr(tail_sampling, "MOST_TRACES", 5)
    traces = start("flagged")
    root = traces.tracer.start_span("root")
    traces.span("flagged", root, **{semconv.FLAGGED: True})
    others = [traces.tracer.start_span("other") for _ in range(5)]
    traces.span("late", root)
    root.end()
    assert traces.kept == dict.fromkeys(["flagged", "late", "root"], "flagged")
    for each in others:
        each.end()


@pytest.mark.parametrize("value", ["dear", (1.0, 2.0), float("nan"), float("-inf"), None, -5])
def test_attributes_that_are_no_numbers_are_none(start: Any, value: Any) -> None:
    """The program's own spans may have any; they lose no span, and spoil no sum."""
    traces = start(RULES)
    odd = {semconv.COST: value, semconv.RESPONSE_TIME_TO_FIRST_CHUNK: value}
    with traces.tracer.start_as_current_span("root") as root:
        traces.span("odd", root, **{key: each for key, each in odd.items() if each is not None})
        traces.span("dear", root, **{semconv.COST: 0.2})
    assert traces.kept == dict.fromkeys(["odd", "dear", "root"], "cost")


def test_what_others_began_is_judged_by_itself(start: Any) -> None:
    """Beneath a remote parent, one of a foreign provider, or one that is not sampled."""
    traces = start("errors")
    other = TracerProvider(shutdown_on_exit=False).get_tracer("other")
    with (
        suppress(KeyError),
        other.start_as_current_span("theirs"),
        traces.tracer.start_as_current_span("ours"),
    ):
        raise KeyError
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(7, 7, True))):
        traces.span("unsampled", trace.get_current_span())
    assert traces.kept == {"ours": "errors"}
    assert dropped.left_out_counts() == {}


@pytest.mark.parametrize("keep", [None, "errors,100%", "flagged"])
def test_no_more_traces_a_second_than_the_limit(
    start: Any, monkeypatch: pytest.MonkeyPatch, keep: str | None
) -> None:
    """Whole ones; and of those that are worth it, where there are rules."""
    now = 0.0
    monkeypatch.setattr(tail_sampling, "monotonic", lambda: now)
    traces = start(keep, 2)
    for number in range(100):
        now = number / 10
        traces.span(f"boring {number}") if keep == "flagged" else None
        with traces.tracer.start_as_current_span(f"root {number}") as root:
            traces.span(f"child {number}", root, **{semconv.FLAGGED: True})
    kept = len(traces.spans)
    assert 2 * (2 * 9.9) <= kept <= 2 * (2 * 9.9 + 2)
    by = dropped.left_out_counts()
    assert by.pop("keep", 0) == (100 if keep == "flagged" else 0)
    assert by == {"trace_limit": 200 - kept}
    whole = Counter(each.name.split()[1] for each in traces.spans)
    assert set(whole.values()) == {2}


@pytest.mark.parametrize("limit", [0, -1, "many", True])
def test_a_limit_that_is_none_is_told(limit: Any) -> None:
    with pytest.raises(ConfigError, match="trace_limit="):
        TailSampling(SimpleSpanProcessor(InMemorySpanExporter()), trace_limit=limit)


def test_the_spans_that_wait_are_bounded(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest trace's are left out; what it still does is judged, and a trace is never lost."""
    monkeypatch.setattr(tail_sampling, "MOST_SPANS", 10)
    traces = start("errors")
    with traces.tracer.start_as_current_span("old") as old:
        for _ in range(8):
            traces.span("early", old)
        with traces.tracer.start_as_current_span("new", Context()) as new:
            for _ in range(3):
                traces.span("child", new)
            assert dropped.left_out_counts() == {"overflow": 8}
            new.set_status(StatusCode.ERROR)
        assert Counter(each.name for each in traces.spans) == {"child": 3, "new": 1}
        old.set_status(StatusCode.ERROR)
    assert traces.kept["old"] == "errors"
    assert traces.sampling._waiting == 0


def test_spans_with_long_content_count_for_more(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what waits would be bounded in number only."""
    monkeypatch.setattr(tail_sampling, "MOST_SPANS", 10)
    traces = start("errors")
    content = {semconv.INPUT_MESSAGES: "x" * (8 * tail_sampling.CHARACTERS)}
    with traces.tracer.start_as_current_span("small") as small:
        traces.span("short", small)
        with traces.tracer.start_as_current_span("large", Context()) as large:
            traces.span("long", large, **content)
            assert dropped.left_out_counts() == {}
            traces.span("long", large, **content)
            assert dropped.left_out_counts() == {"overflow": 3}
    assert traces.sampling._waiting == 0


def test_spans_that_never_end_are_forgotten(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_sampling, "MOST_TRACES", 5)
    traces = start("errors")
    leaked = [traces.tracer.start_span("leaked") for _ in range(20)]
    assert len(traces.sampling._traces) == 5
    leaked[0].set_status(StatusCode.ERROR)
    for each in leaked:
        each.end()
    assert traces.kept == {"leaked": "errors"}
    assert dropped.left_out_counts() == {"keep": 19}
    assert not traces.sampling._traces


def test_shutting_down_leaves_nothing_undecided(start: Any) -> None:
    traces = start("errors")
    root = traces.tracer.start_span("root")
    traces.span("child", root)
    assert traces.provider.force_flush()
    assert dropped.left_out_counts() == {}
    traces.provider.shutdown()
    assert dropped.left_out_counts() == {"keep": 1}
    root.end()


@given(
    some.lists(
        some.tuples(some.integers(0, 3), some.integers(0, 3), some.booleans(), some.booleans()),
        max_size=40,
    )
)
def test_every_span_is_passed_on_once_or_counted(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever begins and ends in which order: nothing is lost, doubled, or kept without cause."""
    dropped.left_out = dropped.Losses()
    traces = Traces("errors")
    roots = [traces.tracer.start_span(f"{number}") for number in range(4)]
    open_spans: list[Any] = []
    ended, wrong = Counter(root.get_span_context().trace_id for root in roots), set()
    for which, other, ends, fails in steps:
        if ends and open_spans:
            span = open_spans.pop(other % len(open_spans))
            if fails:
                span.set_status(StatusCode.ERROR)
                wrong.add(span.get_span_context().trace_id)
            span.end()
        else:
            span = traces.tracer.start_span("x", trace.set_span_in_context(roots[which]))
            ended[span.get_span_context().trace_id] += 1
            open_spans.append(span)
    for span in (*roots, *open_spans):
        span.end()
    kept = Counter(each.context.trace_id for each in traces.spans)
    assert kept == {each: ended[each] for each in wrong}
    assert sum(dropped.left_out_counts().values()) + kept.total() == ended.total()
    traces.provider.shutdown()


def test_threads_share_a_trace(start: Any) -> None:
    traces = start("errors")
    with traces.tracer.start_as_current_span("root") as root, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: traces.span(f"{number}", root), range(400)))
        root.set_status(StatusCode.ERROR)
    assert len(traces.kept) == 401


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_sends_nothing_of_its_parents(start: Any) -> None:
    traces = start("errors")
    with traces.tracer.start_as_current_span("root") as root:
        traces.span("child", root)
        with traces.sampling._lock:  # as another thread of the parent might
            if (child := os.fork()) == 0:
                right = not traces.sampling._traces and not traces.sampling._waiting
                traces.span("of the child", root)
                os._exit(0 if right and not traces.spans else 1)
        assert os.waitpid(child, 0)[1] == 0
        root.set_status(StatusCode.ERROR)
    assert traces.kept == {"child": "errors", "root": "errors"}
