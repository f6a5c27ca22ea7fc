"""`@llmwatch.watch` and `llmwatch.current`."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import logging
import pickle
import threading
import time
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from llmwatch import semconv
from llmwatch.errors import ConfigError
from llmwatch.signals import active
from llmwatch.signals import current as current_module
from llmwatch.signals.context import attributes, current_operation
from llmwatch.signals.current import current
from llmwatch.sources.decorators import watch
from tests.watched import Watched, watched


@pytest.fixture
def seen() -> Iterator[Watched]:
    """What decorated functions send during the test."""
    with watched() as seen:
        yield seen


# --- functions under test ------------------------------------------------------------------------


def plain(text: str, *, times: int = 2) -> str:
    """Say it again."""
    return text * times


async def coroutine(text: str, *, times: int = 2) -> str:
    """Say it again."""
    await asyncio.sleep(0)
    return text * times


def generator(text: str, *, times: int = 2) -> Iterator[str]:
    """Say it again."""
    for _ in range(times):
        yield text


async def async_generator(text: str, *, times: int = 2) -> AsyncIterator[str]:
    """Say it again."""
    for _ in range(times):
        await asyncio.sleep(0)
        yield text


KINDS = [plain, coroutine, generator, async_generator]

watched_plain = watch(plain)
watched_generator = watch(generator)


@watch
def module_level(text: str) -> str:
    return text


@watch
def module_level_generator(text: str) -> Iterator[str]:
    yield text


class Speaker:
    """Has decorated methods of all kinds."""

    model = "speaker-1"

    @watch
    def plain(self, text: str) -> str:
        return self.model + text

    @watch
    async def coroutine(self, text: str) -> str:
        return self.model + text

    @watch(model_from="self.model")
    def generator(self, text: str) -> Iterator[str]:
        yield self.model + text

    @watch
    async def async_generator(self, text: str) -> AsyncIterator[str]:
        yield self.model + text

    @classmethod
    @watch
    def of_class(cls, text: str) -> str:
        return cls.model + text

    @watch
    @classmethod
    def around_class(cls, text: str) -> str:
        return cls.model + text

    @staticmethod
    @watch
    def static(text: str) -> str:
        return text

    @watch
    @staticmethod
    def around_static(text: str) -> Iterator[str]:
        yield text


class Model:
    """A callable object."""

    name = "model-1"

    def __call__(self, text: str) -> str:
        return text


class Streamer(Model):
    def __call__(self, text: str) -> Iterator[str]:
        yield text


class AsyncModel(Model):
    async def __call__(self, text: str) -> str:
        return text


def result_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it, and wait for all there is."""
    made = function(*args, **kwargs)
    if inspect.isgenerator(made):
        return list(made)
    if inspect.isasyncgen(made):

        async def collect() -> list[Any]:
            return [item async for item in made]

        return asyncio.run(collect())
    return asyncio.run(made) if inspect.iscoroutine(made) else made


# --- nothing is different ------------------------------------------------------------------------


@pytest.mark.parametrize("instrumented", [True, False])
@pytest.mark.parametrize("function", KINDS)
def test_a_decorated_function_is_what_it_was(function, instrumented):
    """Same result, signature, kind and name, instrumented or not."""
    decorated = watch(function)
    assert isinstance(decorated, types.FunctionType)
    assert inspect.signature(decorated) == inspect.signature(function)
    for ask in (
        inspect.isfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert ask(decorated) == ask(function)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(decorated, name) == getattr(function, name)
    with watched() if instrumented else contextlib.nullcontext():
        made, original = decorated("a", times=3), function("a", times=3)
        assert type(made) is type(original)
        assert getattr(made, "__qualname__", None) == getattr(original, "__qualname__", None)
        if inspect.iscoroutine(made):
            made.close()
            original.close()
        assert result_of(decorated, "a", times=3) == result_of(function, "a", times=3)


@pytest.mark.parametrize("function", KINDS)
def test_wrong_arguments_are_the_functions_own_to_refuse(function, seen):
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword"):
        result_of(watch(function), "a", wrong=1)
    assert current_operation() is None


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async_generator"])
def test_methods_are_bound(kind, seen):
    speaker = Speaker()
    bound = getattr(speaker, kind)
    assert inspect.ismethod(bound)
    assert bound.__self__ is speaker
    assert str(inspect.signature(bound)).startswith("(text: 'str')")
    direct = result_of(getattr(Speaker, kind), speaker, "!")
    assert result_of(bound, "!") == direct
    assert direct in ("speaker-1!", ["speaker-1!"])
    assert len(seen.spans) == 2


@pytest.mark.parametrize("owner", [Speaker, Speaker()])
def test_class_and_static_methods_can_be_inside_or_outside(owner, seen):
    assert owner.of_class("!") == owner.around_class("!") == "speaker-1!"
    assert owner.static("!") == "!"
    assert list(owner.around_static("!")) == ["!"]
    assert isinstance(vars(Speaker)["around_class"], classmethod)
    assert isinstance(vars(Speaker)["around_static"], staticmethod)
    assert len(seen.spans) == 4


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (functools.partial(plain, times=1), "plain"),
        (functools.partial(generator, times=1), "generator"),
        (functools.partial(coroutine, times=1), "coroutine"),
        (functools.lru_cache(plain), "plain"),
        (Model(), "Model"),
        (Streamer(), "Streamer"),
        (AsyncModel(), "AsyncModel"),
        (Speaker.plain.__wrapped__.__get__(Speaker()), "plain"),  # type: ignore[attr-defined]
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_callables_stay_what_they_are(made, name, seen):
    decorated = watch(made)
    assert isinstance(decorated, type(made))
    assert inspect.signature(decorated) == inspect.signature(made)
    assert inspect.iscoroutinefunction(decorated) == inspect.iscoroutinefunction(made)
    assert inspect.isgeneratorfunction(decorated) == inspect.isgeneratorfunction(made)
    assert result_of(decorated, "a") == result_of(made, "a")
    assert seen.span.name == f"chat {name}"


def test_a_callable_object_keeps_its_attributes(seen):
    decorated = watch(Model())
    decorated.name = "other"
    assert decorated.name == decorated.__wrapped__.name == "other"


def test_a_cached_method_is_bound(seen):
    class Cached:
        @watch
        @functools.lru_cache  # noqa: B019 - it lives as long as this test
        def answer(self, text: str) -> tuple[object, str]:
            return self, text

    cached = Cached()
    assert cached.answer("a") == (cached, "a")
    assert cached.answer("a") is cached.answer("a")


@pytest.mark.parametrize("function", [module_level, module_level_generator])
def test_functions_pickle_by_name(function):
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.copy(function) is copy.deepcopy(function) is function


@pytest.mark.parametrize("kind", ["plain", "generator"])
def test_methods_pickle(kind):
    assert pickle.loads(pickle.dumps(getattr(Speaker, kind))) is getattr(Speaker, kind)
    again = pickle.loads(pickle.dumps(getattr(Speaker(), kind)))
    assert result_of(again, "!") in ("speaker-1!", ["speaker-1!"])


@pytest.mark.parametrize(
    "send", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
@pytest.mark.parametrize("made", [functools.partial(plain, "a"), Model()])
def test_other_callables_are_copied_with_their_watch(made, send, seen):
    again = send(watch(name="it")(made))
    assert again is not made
    assert isinstance(again, type(made))
    result_of(again, *(() if isinstance(made, functools.partial) else ("a",)))
    assert seen.span.name == "chat it"


def test_an_abstract_method_stays_abstract():
    class Base(abc.ABC):
        @watch
        @abc.abstractmethod
        def stream(self) -> Iterator[str]: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()


@types.coroutine
def old_style() -> Iterator[None]:
    yield


def test_an_awaitable_generator_stays_awaitable(seen):
    async def go() -> None:
        await watch(old_style)()

    asyncio.run(go())
    assert not seen.spans


# --- what is seen --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", KINDS)
def test_one_call_is_one_operation(function, seen):
    result_of(watch(model="m", provider="house", operation="text_completion")(function), "a")
    span = seen.span
    assert span.name == "text_completion m"
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes[semconv.OPERATION_NAME] == "text_completion"
    assert span.attributes[semconv.PROVIDER_NAME] == "house"
    assert span.attributes[semconv.REQUEST_MODEL] == "m"
    assert span.attributes[semconv.CODE_FUNCTION_NAME] == f"{__name__}.{function.__qualname__}"
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert point.count == 1
    assert point.attributes[semconv.OPERATION_NAME] == "text_completion"
    assert not seen.signals.live


def test_bare_and_with_parentheses_are_the_same(seen):
    result_of(watch(plain), "a")
    result_of(watch()(plain), "a")
    first, second = seen.spans
    assert first.name == second.name == "chat plain"
    assert first.attributes == second.attributes
    assert first.attributes[semconv.PROVIDER_NAME] == "custom"
    assert semconv.REQUEST_MODEL not in first.attributes


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "chat plain"),
        ({"model": "m"}, "chat m"),
        ({"name": "summary"}, "chat summary"),
        ({"name": "summary", "model": "m"}, "chat summary"),
        ({"operation": "execute_tool", "model": "m"}, "execute_tool plain"),
        ({"operation": "invoke_agent", "name": "planner"}, "invoke_agent planner"),
    ],
)
def test_the_span_is_named_after_the_name_the_model_or_the_function(options, name, seen):
    result_of(watch(**options)(plain), "a")
    assert seen.span.name == name


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("execute_tool", "gen_ai.tool.name"),
        ("invoke_agent", "gen_ai.agent.name"),
        ("create_agent", "gen_ai.agent.name"),
        ("invoke_workflow", "gen_ai.workflow.name"),
    ],
)
def test_tools_agents_and_workflows_have_their_conventions_name(operation, key, seen):
    watch(operation=operation)(plain)("a")
    assert seen.span.attributes[key] == "plain"


def with_default(prompt: str, model: str = "default", *, other: str = "other") -> str:
    return prompt


def with_options(prompt: str, **options: Any) -> str:
    return prompt


@pytest.mark.parametrize(
    ("function", "model_from", "args", "kwargs", "model"),
    [
        (with_default, "model", ("a",), {}, "default"),
        (with_default, "model", ("a", "m"), {}, "m"),
        (with_default, "model", ("a",), {"model": "m"}, "m"),
        (with_default, "model", ("a", None), {}, None),
        (with_default, "model", ("a", 7), {}, None),
        (with_default, "other", ("a",), {}, "other"),
        (with_default, "other", ("a",), {"other": "m"}, "m"),
        (with_options, "model", ("a",), {"model": "m"}, "m"),
        (with_options, "model", ("a",), {}, None),
        (functools.partial(with_default, model="m"), "model", ("a",), {}, "m"),
        (functools.partial(with_default, "a"), "model", ("m",), {}, "m"),
        (Speaker().plain, "text", ("m",), {}, "m"),
    ],
)
def test_the_model_is_read_from_the_arguments(function, model_from, args, kwargs, model, seen):
    watch(model_from=model_from)(function)(*args, **kwargs)
    assert seen.spans[-1].attributes.get(semconv.REQUEST_MODEL) == model


def test_the_model_is_read_from_an_attribute_of_an_argument(seen):
    assert list(Speaker().generator("!")) == ["speaker-1!"]
    assert seen.span.name == "chat speaker-1"


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError]
)
@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
def test_the_functions_exception_passes_through_and_is_recorded(kind, error, seen):
    raised = error("secret")

    def fail() -> None:
        raise raised

    @watch
    def plain() -> None:
        fail()

    @watch
    async def coroutine() -> None:
        fail()

    @watch
    def generator() -> Iterator[int]:
        yield 1
        fail()

    @watch
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        fail()

    made = {
        "plain": plain,
        "coroutine": lambda: drive(coroutine()),
        "generator": lambda: list(generator()),
        "async generator": lambda: drive(exhaust(async_generator())),
    }[kind]
    with pytest.raises(error) as caught:
        made()
    assert caught.value is raised
    assert caught.value.__context__ is None
    span = seen.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.ERROR_TYPE] == error.__qualname__
    assert "secret" not in span.to_json()
    if "generator" in kind:
        ending = "cancelled" if error is asyncio.CancelledError else "failed"
        assert span.attributes[semconv.STREAM_ENDING] == ending
        assert span.attributes[semconv.STREAM_CHUNKS] == 1


def drive(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing, without a loop that treats some errors its way."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def exhaust(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def test_a_cancelled_coroutine_is_one_failed_operation(seen):
    started = asyncio.Event()

    @watch
    async def answer() -> None:
        started.set()
        await asyncio.sleep(60)

    async def go() -> None:
        task = asyncio.create_task(answer())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert seen.span.attributes[semconv.ERROR_TYPE] == "CancelledError"
    assert seen.span.status.status_code is StatusCode.ERROR


def test_a_coroutine_collected_while_it_waits_ends_without_a_complaint(seen, caplog):
    """It ends in somebody else's context, where there is nothing to detach."""
    loop = asyncio.new_event_loop()

    @watch
    async def answer() -> None:
        await loop.create_future()

    made = answer()
    contextvars.copy_context().run(made.send, None)
    assert current_operation() is None
    made.close()
    loop.close()
    assert seen.span.attributes[semconv.ERROR_TYPE] == "GeneratorExit"
    assert not caplog.records


# --- nothing is instrumented, or it is suppressed ------------------------------------------------


@pytest.mark.parametrize("function", KINDS)
def test_a_function_decorated_before_instrument_is_watched_and_passes_through_after(function):
    decorated = watch(function)
    with watched() as seen:
        result_of(decorated, "a")
        assert len(seen.spans) == 1
    result_of(decorated, "a")
    assert len(seen.spans) == 1


def test_nothing_stands_between_where_nothing_is_instrumented():
    made = watch(generator)("a")
    assert made.gi_code is generator.__code__


@pytest.mark.parametrize("function", KINDS)
def test_suppressed_calls_are_not_watched(function, seen):
    decorated = watch(function)
    with suppress_instrumentation():
        assert result_of(decorated, "a") == result_of(function, "a")
    assert not seen.spans


# --- generators ----------------------------------------------------------------------------------


def echo() -> Any:
    """Answers what it is sent, and survives one kind of exception."""
    got = None
    total = 0
    while got != "stop":
        try:
            got = yield (total, got)
            total += 1
        except LookupError as error:
            got = repr(error)
    return total


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([None, 1, "stop"])),
        st.tuples(
            st.just("throw"), st.sampled_from([KeyError("k"), ValueError("v"), GeneratorExit()])
        ),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=8,
)


def behave(made: Any, actions: list[tuple[str, Any]]) -> list[Any]:
    """What a generator answers to a list of actions."""
    answers: list[Any] = []
    for action, value in actions:
        method = getattr(made, action)
        try:
            answers.append(method() if action == "close" else method(value))
        except StopIteration as stop:
            answers.append(("stopped", stop.value))
        except BaseException as error:  # noqa: BLE001 - whatever it is, both must raise it
            answers.append((type(error), str(error)))
    return answers


@settings(deadline=None, max_examples=60)
@given(actions=ACTIONS)
def test_a_decorated_generator_answers_as_the_original_does(actions):
    """Whatever is sent and thrown; and it is at most one operation."""
    with watched() as seen:
        decorated = watch(echo)()
        assert behave(decorated, actions) == behave(echo(), actions)
        del decorated
        gc.collect(0)
        assert len(seen.spans) <= 1
        assert not seen.signals.live


def test_what_a_generator_returns_is_its_value(seen):
    @watch
    def inner() -> Any:
        yield 1
        return "done"

    def outer() -> Any:
        return (yield from inner())

    made = outer()
    assert next(made) == 1
    with pytest.raises(StopIteration) as stop:
        next(made)
    assert stop.value.value == "done"


def test_an_async_generator_takes_what_is_sent_and_thrown(seen):
    @watch
    async def aecho() -> Any:
        got = None
        while True:
            try:
                got = yield got
            except LookupError:
                got = "caught"

    async def go() -> None:
        made = aecho()
        assert await anext(made) is None
        assert await made.asend("a") == "a"
        assert await made.athrow(KeyError()) == "caught"
        await made.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(made)

    asyncio.run(go())
    assert seen.span.attributes[semconv.STREAM_ENDING] == "closed"
    assert seen.span.attributes[semconv.STREAM_CHUNKS] == 3


def test_items_are_chunks(seen):
    """TTFT from the first step on, and the gaps between items, measured where they are made."""
    ran: list[float] = []
    read: list[float] = []

    @watch
    def slow() -> Iterator[int]:
        ran.append(time.perf_counter())
        for number in range(3):
            time.sleep(0.01)
            ran.append(time.perf_counter())
            yield number

    made = slow()
    time.sleep(0.03)  # nothing runs yet: no time of the call
    read.append(time.perf_counter())
    read.extend(time.perf_counter() for _ in made)
    found = seen.span.attributes
    assert found[semconv.STREAM_CHUNKS] == 3
    assert found[semconv.STREAM_ENDING] == "exhausted"
    assert ran[1] - ran[0] <= found[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] <= read[1] - read[0]
    longest = max(later - earlier for earlier, later in zip(ran[1:], read[2:], strict=False))
    assert 0.01 <= found[semconv.STREAM_GAP_P50] <= found[semconv.STREAM_GAP_MAX] <= longest
    (point,) = seen.points("gen_ai.client.operation.time_per_output_chunk")
    assert point.count == 2


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_that_is_never_asked_is_no_operation(function, seen):
    made = watch(function)("a")
    reference = weakref.ref(made)
    del made
    gc.collect()
    assert reference() is None
    assert not seen.spans
    assert not seen.signals.live


def left_by_break(made: Any) -> None:
    for _ in made:
        break


def dropped(made: Any) -> None:
    next(made)


def closed(made: Any) -> None:
    next(made)
    made.close()


@pytest.mark.parametrize("leave", [left_by_break, dropped, closed])
def test_a_generator_left_early_ends_at_once_and_is_no_error(leave, seen):
    cleaned = []

    @watch
    def numbers() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            cleaned.append(current_operation())

    leave(numbers())
    assert cleaned[0] is not None
    span = seen.span
    assert span.attributes[semconv.STREAM_ENDING] == "closed"
    assert span.attributes[semconv.STREAM_CHUNKS] == 1
    assert span.status.status_code is StatusCode.UNSET


def test_an_async_generator_collected_by_the_loop_ends_once(seen, caplog):
    async def go() -> None:
        async for _ in watch(async_generator)("a", times=10):
            break
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(go())
    assert seen.span.attributes[semconv.STREAM_ENDING] == "closed"
    assert not caplog.records


def test_an_async_generator_cancelled_in_a_step_ends_once(seen):
    @watch
    async def stuck() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)

    async def go() -> None:
        made = stuck()
        await anext(made)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(made), 0.01)

    asyncio.run(go())
    assert seen.span.attributes[semconv.STREAM_ENDING] == "cancelled"
    assert seen.span.attributes[semconv.ERROR_TYPE] == "CancelledError"


def test_the_generators_context_is_inside_the_operation_and_the_consumers_is_not(seen):
    """Also of the spans that the body holds open across a yield."""

    @watch
    def speak() -> Iterator[Any]:
        yield current_operation()
        with seen.tracer.start_as_current_span("body") as body:
            yield body
            assert trace.get_current_span() is body
            yield current_operation()
        yield trace.get_current_span()

    with seen.tracer.start_as_current_span("consumer") as consumer:
        for item in speak():
            assert item is not None
            assert trace.get_current_span() is consumer
            assert current_operation() is None
            last = item
    assert last.get_span_context() == seen.named("chat speak").context
    assert seen.named("body").parent.span_id == seen.named("chat speak").context.span_id
    assert seen.named("chat speak").parent.span_id == seen.named("consumer").context.span_id


def test_two_generators_by_turns_do_not_mix(seen):
    @watch
    def speak() -> Iterator[Any]:
        for _ in range(3):
            yield current_operation()

    pairs = list(zip(speak(), speak(), strict=True))
    firsts, seconds = ({id(each) for each in column} for column in zip(*pairs, strict=True))
    assert len(firsts) == len(seconds) == 1
    assert firsts != seconds


def test_a_generator_belongs_where_it_was_called_not_where_it_is_read(seen):
    """As with a streaming response, which a web server reads after the handler returned."""
    with seen.tracer.start_as_current_span("handler"), attributes(route="/ask"):
        made = watch(generator)("a")
    assert list(made) == ["a", "a"]
    span = seen.named("chat generator")
    assert span.parent.span_id == seen.named("handler").context.span_id
    assert span.attributes[semconv.ROUTE] == "/ask"


def test_each_step_may_be_in_another_thread(seen, caplog):
    @watch
    def speak() -> Iterator[Any]:
        with seen.tracer.start_as_current_span("body"):
            for _ in range(3):
                yield threading.get_ident(), current_operation()

    items: list[Any] = []
    made = speak()
    for _ in range(3):
        thread = threading.Thread(target=lambda: items.append(next(made)))
        thread.start()
        thread.join()
    operations = {id(operation) for _, operation in items}
    assert len(operations) == 1
    made.close()
    assert seen.named("chat speak").attributes[semconv.STREAM_CHUNKS] == 3


def test_each_step_may_be_in_another_task(seen, caplog):
    async def go() -> None:
        made = watch(async_generator)("a", times=3)
        for _ in range(3):
            assert await asyncio.create_task(anext(made)) == "a"  # type: ignore[arg-type]
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(made))  # type: ignore[arg-type]

    asyncio.run(go())
    assert seen.span.attributes[semconv.STREAM_ENDING] == "exhausted"
    assert not caplog.records


def test_nothing_keeps_an_item_alive(seen):
    """Items may be large: each can go as soon as its consumer lets go."""

    class Item: ...

    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    @watch
    def items() -> Iterator[Item]:
        for _ in range(3):
            assert not alive
            yield made()

    def made() -> Item:
        item = Item()
        alive.add(item)
        return item

    for item in items():
        assert len(alive) == 1
        del item


@pytest.mark.parametrize("how", ["raise", "throw"])
def test_a_failure_leaves_no_cycle(how, seen):
    """What the exception holds goes when its handler is done, without the garbage collector."""

    class HeldError(Exception):
        """Can be referred to weakly."""

    @watch
    def fail() -> Iterator[int]:
        yield 1
        raise HeldError

    def go() -> weakref.ref[HeldError]:
        made = fail()
        next(made)
        try:
            next(made) if how == "raise" else made.throw(HeldError())  # type: ignore[attr-defined]
        except HeldError as error:
            return weakref.ref(error)
        raise AssertionError("it did not fail")

    gc.disable()
    try:
        assert go()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["generator", "async generator", "coroutine"])
def test_a_function_that_returns_work_to_come_is_watched_to_its_end(kind, seen):
    work = {"generator": generator, "async generator": async_generator, "coroutine": coroutine}[
        kind
    ]

    @watch
    def hidden() -> Any:
        return work("a")

    assert result_of(hidden) == result_of(work, "a")
    assert seen.span.name == "chat hidden"
    assert (semconv.STREAM_CHUNKS in seen.span.attributes) == ("generator" in kind)


def test_work_to_come_that_nobody_asks_for_is_an_abandoned_operation(seen):
    watch(lambda: generator("a"))()
    gc.collect()
    assert seen.span.attributes  # it has started: it was called
    assert not seen.signals.live


# --- nesting and threads -------------------------------------------------------------------------


def test_calls_inside_a_call_are_its_children(seen):
    @watch
    def outer() -> list[str]:
        return [watched_plain("a"), *watched_generator("a")]

    outer()
    parent = seen.named("chat outer").context.span_id
    assert seen.named("chat plain").parent.span_id == parent
    assert seen.named("chat generator").parent.span_id == parent
    assert current_operation() is None


def test_recursion_nests(seen):
    @watch
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)

    down(3)
    spans = {span.context.span_id: span for span in seen.spans}
    assert len(spans) == 4
    (root,) = (span for span in spans.values() if span.parent is None)
    assert all(span is root or span.parent.span_id in spans for span in spans.values())


def test_threads_do_not_meet(seen):
    barrier = threading.Barrier(8, timeout=10)

    @watch
    def answer(number: int) -> int:
        barrier.wait()
        current().model(f"m{number}")
        return number

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    models = {span.attributes[semconv.RESPONSE_MODEL] for span in seen.spans}
    assert models == {f"m{number}" for number in range(8)}
    assert all(span.parent is None for span in seen.spans)


def test_tasks_do_not_meet(seen):
    @watch
    async def answer(number: int) -> None:
        await asyncio.sleep(0)
        current().model(f"m{number}")
        await asyncio.sleep(0)

    async def go() -> None:
        await asyncio.gather(*map(answer, range(20)))

    asyncio.run(go())
    assert len({span.attributes[semconv.RESPONSE_MODEL] for span in seen.spans}) == 20


# --- the handle ----------------------------------------------------------------------------------


def test_the_handle_says_what_only_the_function_knows(seen):
    @watch(model="m")
    def answer() -> None:
        handle = current()
        handle.usage(input_tokens=3, output_tokens=5, cache_read_tokens=1, reasoning_tokens=2)
        handle.model("m-2")
        handle.finish("stop")
        handle.response_id("r1")
        handle.set(app__temperature=0.5, plain=True)

    answer()
    found = seen.span.attributes
    assert found[semconv.USAGE_INPUT_TOKENS] == 3
    assert found[semconv.USAGE_OUTPUT_TOKENS] == 5
    assert found[semconv.USAGE_CACHE_READ_INPUT_TOKENS] == 1
    assert found[semconv.USAGE_REASONING_OUTPUT_TOKENS] == 2
    assert found[semconv.RESPONSE_MODEL] == "m-2"
    assert found[semconv.RESPONSE_FINISH_REASONS] == ("stop",)
    assert found[semconv.RESPONSE_ID] == "r1"
    assert found["app.temperature"] == 0.5
    assert found["plain"] is True
    assert semconv.USAGE_ESTIMATED not in found
    points = seen.points("gen_ai.client.token.usage")
    assert {point.attributes[semconv.TOKEN_TYPE]: point.sum for point in points} == {
        "input": 3,
        "output": 5,
    }


def test_usage_may_come_in_parts(seen):
    @watch
    def answer() -> Iterator[str]:
        current().usage(input_tokens=3, output_tokens=0)
        for count in range(1, 4):
            yield "a"
            current().usage(output_tokens=count)

    list(answer())
    assert seen.span.attributes[semconv.USAGE_INPUT_TOKENS] == 3
    assert seen.span.attributes[semconv.USAGE_OUTPUT_TOKENS] == 3


def test_an_estimate_is_labelled(seen):
    @watch
    def answer() -> None:
        current().usage(output_tokens=5, estimated=True)

    answer()
    assert seen.span.attributes[semconv.USAGE_ESTIMATED] is True


class Count:
    """A whole number of another library."""

    def __index__(self) -> int:
        return 7


def test_counts_of_other_libraries_are_whole_numbers_too(seen):
    @watch
    def answer() -> None:
        current().usage(output_tokens=Count())

    answer()
    assert seen.span.attributes[semconv.USAGE_OUTPUT_TOKENS] == 7


def test_outside_of_a_call_the_handle_does_nothing(seen):
    handle = current()
    handle.usage(input_tokens=1)
    handle.model("m")
    handle.finish("stop")
    handle.response_id("r")
    handle.set(a=1)
    handle.chunk()
    assert not seen.spans


@pytest.mark.parametrize(
    "misuse",
    [
        lambda handle: handle.usage(output_tokens=-1),
        lambda handle: handle.usage(output_tokens=1.5),
        lambda handle: handle.usage(output_tokens="secret"),
        lambda handle: handle.usage(output_tokens=True),
        lambda handle: handle.model(None),
        lambda handle: handle.response_id(7),
        lambda handle: handle.finish(None),
        lambda handle: handle.set(prompt=["secret"]),
    ],
)
def test_what_the_handle_cannot_use_is_ignored_and_said_once(misuse, seen, caplog, monkeypatch):
    monkeypatch.setattr(current_module, "_told", set())

    @watch
    def answer() -> None:
        misuse(current())

    with caplog.at_level(logging.WARNING, logger="llmwatch"):
        answer()
        answer()
    (record,) = caplog.records
    assert "give " in record.getMessage()
    assert "secret" not in record.getMessage()
    first, second = seen.spans
    assert dict(first.attributes) == dict(second.attributes)
    assert set(first.attributes) == {
        semconv.OPERATION_NAME,
        semconv.PROVIDER_NAME,
        semconv.CODE_FUNCTION_NAME,
    }


def test_a_callback_says_when_output_arrives_also_from_another_thread(seen):
    @watch
    def answer() -> None:
        handle = current()

        def model() -> None:
            time.sleep(0.02)
            for _ in range(3):
                handle.chunk()
                time.sleep(0.01)

        thread = threading.Thread(target=model)
        thread.start()
        thread.join()

    answer()
    found = seen.span.attributes
    assert found[semconv.STREAM_CHUNKS] == 3
    assert found[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] >= 0.02
    assert found[semconv.STREAM_GAP_P50] >= 0.01
    assert found[semconv.STREAM_CONSUMER_TIME] == 0


def test_in_a_generator_only_items_are_chunks(seen):
    @watch
    def answer() -> Iterator[int]:
        current().chunk()
        yield 1
        current().chunk()

    list(answer())
    assert seen.span.attributes[semconv.STREAM_CHUNKS] == 1


def test_a_handle_that_outlives_its_call_changes_nothing(seen):
    kept = []

    @watch
    def answer() -> None:
        kept.append(current())

    answer()
    kept[0].usage(output_tokens=5)
    kept[0].chunk()
    assert semconv.USAGE_OUTPUT_TOKENS not in seen.span.attributes


# --- wrong uses of the decorator -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, r"watch\(name=''\) cannot be used: give a non-empty string"),
        ({"operation": None}, r"watch\(operation=None\) cannot be used"),
        ({"provider": 7}, r"watch\(provider=7\) cannot be used"),
        ({"model": "m", "model_from": "p"}, "give one of the two"),
        ({"model_from": "wrong"}, r"has no such parameter. It has: text, times"),
    ],
)
def test_wrong_options_are_refused_where_the_function_is_decorated(options, says):
    with pytest.raises(ConfigError, match=says):
        watch(**options)(plain)


@pytest.mark.parametrize("thing", ["name", 7, Model, property(plain)])
def test_what_cannot_be_watched_is_refused(thing):
    with pytest.raises(ConfigError, match="watch cannot watch"):
        watch(thing)


def test_a_failure_of_ours_is_nobody_elses(seen, monkeypatch):
    """The call goes on unwatched."""
    monkeypatch.setattr("llmwatch._guard.strict", False)
    monkeypatch.setattr(seen.signals, "start", None)
    for function in KINDS:
        assert result_of(watch(function), "a") == result_of(function, "a")
    assert active.signals is seen.signals
    assert not seen.spans
