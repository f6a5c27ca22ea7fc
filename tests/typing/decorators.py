"""User code that must type-check: what `watch` decorates keeps its type."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar, assert_type

import llmwatch

T = TypeVar("T")


@llmwatch.watch
def plain(prompt: str, *, limit: int = 10) -> str:
    llmwatch.current().usage(input_tokens=1, output_tokens=limit)
    return prompt


@llmwatch.watch(name="answer", model="m", provider="house")
async def coroutine(prompt: str) -> int:
    return len(prompt)


@llmwatch.watch(operation="text_completion", model_from="model")
def generator(prompt: str, model: str) -> Generator[str, int, bool]:
    sent = yield prompt + model
    return sent > 0


@llmwatch.watch
async def async_generator(prompt: str) -> AsyncIterator[str]:
    yield prompt


@llmwatch.watch
def generic(items: list[T]) -> T:
    return items[0]


async def use() -> None:
    assert_type(plain("a", limit=3), str)
    assert_type(await coroutine("a"), int)
    assert_type(generator("a", "m"), Generator[str, int, bool])
    async for item in async_generator("a"):
        assert_type(item, str)
    assert_type(generic([1]), int)
    plain(1)  # type: ignore[arg-type]
    plain("a", wrong=3)  # type: ignore[call-arg]
    takes_coroutine(coroutine)


def takes_coroutine(function: Callable[[str], Coroutine[Any, Any, int]]) -> None: ...


class Speaker(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    @llmwatch.watch
    def speak(self, prompt: str) -> T:
        return self.value

    @llmwatch.watch(model="m")
    def stream(self, prompt: str) -> Iterator[T]:
        yield self.value

    @classmethod
    @llmwatch.watch
    def of_class(cls, prompt: str) -> str:
        return prompt

    @staticmethod
    @llmwatch.watch
    def static(prompt: str) -> str:
        return prompt


assert_type(Speaker(1).speak("a"), int)
assert_type(Speaker("s").stream("a"), Iterator[str])
assert_type(Speaker.of_class("a"), str)
assert_type(Speaker.static("a"), str)
Speaker(1).speak()  # type: ignore[call-arg]


class Model:
    name = "model"

    def __call__(self, prompt: str) -> str:
        return prompt


model = llmwatch.watch(Model())
assert_type(model, Model)
assert_type(model("a"), str)
assert_type(llmwatch.watch(functools.partial(plain, limit=1)), "functools.partial[str]")
llmwatch.watch(7)  # type: ignore[call-overload]
llmwatch.watch(nme="a")  # type: ignore[call-overload]

handle = llmwatch.current()
assert_type(handle, llmwatch.Current)
handle.finish("stop")
handle.model(7)  # type: ignore[arg-type]
handle.set(temperature=0.5, route="/ask")
handle.set(prompt=["a"])  # type: ignore[arg-type]

with llmwatch.attributes(route="/ask", app__version=3):
    plain("a")
