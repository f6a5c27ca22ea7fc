"""`llmwatch.attributes`: what is said once about everything inside a block."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel_context

from llmwatch import semconv
from llmwatch.errors import ConfigError
from llmwatch.signals.context import ATTRIBUTES_KEY, attributes, current_operation
from tests.watched import Watched, watched


@pytest.fixture
def seen() -> Iterator[Watched]:
    """What operations send during the test."""
    with watched() as seen:
        yield seen


def inside() -> dict[str, object]:
    """The attributes that hold here, by their full names."""
    return dict(otel_context.get_value(ATTRIBUTES_KEY) or {})


def test_the_known_ones_have_names_of_their_own_and_others_keep_theirs():
    with attributes(route="/ask", session="s", user="u", tenant="t", app__version=3, debug=True):
        assert inside() == {
            "llmwatch.route": "/ask",
            "session.id": "s",
            "user.id": "u",
            "llmwatch.tenant": "t",
            "app.version": 3,
            "debug": True,
        }
    assert inside() == {}


def test_what_no_exporter_could_encode_is_made_so() -> None:
    """Lone surrogates, as undecodable names of files have them; integers that OTLP has no room for."""
    more = {"odd\udcff": "x", "größe": "ö"}
    with attributes(route="/\ud800", tenant=2**127, session=-(2**63) + 1, **more):  # type: ignore[arg-type]
        assert inside() == {
            "llmwatch.route": "/?",
            "llmwatch.tenant": str(2**127),
            "session.id": -(2**63) + 1,
            "odd?": "x",
            "größe": "ö",
        }


BLOCKS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c__d"]), st.sampled_from([None, 0, 1, "", "x"])),
    max_size=4,
)


@given(blocks=BLOCKS)
def test_blocks_nest_and_the_inner_value_wins(blocks):
    """What holds is what a dict updated block by block holds; None removes; leaving restores."""

    def enter(rest: list[dict[str, object]], expected: dict[str, object]) -> None:
        assert inside() == expected
        if rest:
            renamed = {key.replace("__", "."): value for key, value in rest[0].items()}
            merged = {
                key: value for key, value in (expected | renamed).items() if value is not None
            }
            with attributes(**rest[0]):  # type: ignore[arg-type]
                enter(rest[1:], merged)
            assert inside() == expected

    enter(blocks, {})


def test_a_known_one_that_is_not_given_keeps_its_outer_value():
    with attributes(route="/ask"), attributes(user="u"):
        assert inside() == {"llmwatch.route": "/ask", "user.id": "u"}


def test_a_block_that_raises_is_left_like_any_other():
    with pytest.raises(LookupError), attributes(user="u"):
        raise LookupError
    assert inside() == {}


@pytest.mark.parametrize("value", [[1], b"x", {"a": 1}, object()])
@pytest.mark.parametrize("key", ["route", "session", "app__version"])
def test_a_value_that_no_backend_knows_is_refused(key, value):
    says = rf"attributes\({key}=.* cannot be used: give a string"
    with pytest.raises(ConfigError, match=says), attributes(**{key: value}):
        pass
    assert inside() == {}


def test_they_go_on_spans_and_only_the_allow_listed_ones_on_metrics(seen):
    with attributes(route="/ask", tenant="t", user="u", session="s", plan="free"):
        seen.start().finish()
    found = seen.span.attributes
    assert found[semconv.ROUTE] == "/ask"
    assert found[semconv.TENANT] == "t"
    assert found[semconv.USER_ID] == "u"
    assert found[semconv.SESSION_ID] == "s"
    assert found["plan"] == "free"
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert point.attributes[semconv.ROUTE] == "/ask"
    assert point.attributes[semconv.TENANT] == "t"
    assert not {semconv.USER_ID, semconv.SESSION_ID, "plan"} & set(point.attributes)


def test_which_go_on_metrics_is_a_setting():
    with watched(metric_attributes=("plan",)) as seen:
        with attributes(route="/ask", plan="free"):
            seen.start().finish()
        (point,) = seen.points("gen_ai.client.operation.duration")
        assert point.attributes["plan"] == "free"
        assert semconv.ROUTE not in point.attributes


def test_an_operation_has_those_of_its_start(seen):
    with attributes(user="first"):
        operation = seen.start()
    with attributes(user="second"):
        operation.finish()
    assert seen.span.attributes[semconv.USER_ID] == "first"


def test_tasks_inherit_them_and_keep_their_own():
    async def task(user: str) -> tuple[dict[str, object], dict[str, object]]:
        with attributes(user=user):
            await asyncio.sleep(0)
            mine = inside()
        return mine, inside()

    async def go() -> list[tuple[dict[str, object], dict[str, object]]]:
        with attributes(route="/ask"):
            return list(await asyncio.gather(*map(task, "abc")))

    for user, (mine, after) in zip("abc", asyncio.run(go()), strict=True):
        assert mine == {"llmwatch.route": "/ask", "user.id": user}
        assert after == {"llmwatch.route": "/ask"}


def test_threads_that_copy_the_context_see_them_and_bare_threads_do_not():
    found: list[dict[str, object]] = []
    with attributes(user="u"):
        for target in (contextvars.copy_context().run, lambda ask: ask()):
            thread = threading.Thread(target=target, args=(lambda: found.append(inside()),))
            thread.start()
            thread.join()
    assert found == [{"user.id": "u"}, {}]


def test_a_coroutine_collected_inside_a_block_leaves_without_a_complaint(caplog):
    """Its own context is gone: there is nothing to detach, and nothing to log."""

    async def ask() -> None:
        with attributes(user="u"):
            await wait

    loop = asyncio.new_event_loop()
    wait = loop.create_future()
    made = ask()
    contextvars.copy_context().run(made.send, None)
    made.close()
    loop.close()
    assert inside() == {}
    assert not caplog.records


def test_the_current_operation_is_the_innermost_entered(seen):
    outer, inner = seen.start(), seen.start()
    assert current_operation() is None
    first = outer.enter()
    second = inner.enter()
    assert current_operation() is inner
    inner.leave(second)
    assert current_operation() is outer
    outer.leave(first)
    assert current_operation() is None
    assert current_operation(outer.context) is None  # no cycle: dropping an operation ends it
    outer.finish()
    inner.finish()
