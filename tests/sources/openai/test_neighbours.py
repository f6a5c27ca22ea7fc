"""How a neighbour is recognised, with stand-ins of a few lines in modules named like the real ones.

The real ones are met in ``tests/integrations``.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import openai
import pytest
import wrapt
from openai.resources.beta.threads.runs import Runs
from openai.resources.chat.completions import AsyncCompletions, Completions

from llmwatch.sources.openai import neighbours
from llmwatch.sources.openai.neighbours import NEIGHBOURS, Neighbours
from llmwatch.testing import Captured, capture
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STAND_IN = """
def count(wrapped, instance, args, kwargs):
    calls.append(instance)
    return wrapped(*args, **kwargs)

async def acount(wrapped, instance, args, kwargs):
    calls.append(instance)
    return await wrapped(*args, **kwargs)
"""


class StandIn:
    """A module named like a neighbour's, with wrappers that count."""

    def __init__(self, name: str) -> None:
        self.calls: list[Any] = []
        self.module = ModuleType(name)
        vars(self.module)["calls"] = self.calls
        exec(STAND_IN, vars(self.module))
        self._undo: list[Callable[[], None]] = []

    def wrap(self, kind: type, method: str) -> None:
        """Wrap a method as a neighbour does."""
        wrapper = self.module.acount if kind.__name__.startswith("Async") else self.module.count
        inherited = method not in vars(kind)
        before = getattr(kind, method) if inherited else vars(kind)[method]
        setattr(kind, method, wrapt.FunctionWrapper(before, wrapper))
        undo = (
            (lambda: delattr(kind, method))
            if inherited
            else (lambda: setattr(kind, method, before))
        )
        self._undo.append(undo)

    def unwrap(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()


@pytest.fixture
def neighbour(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A neighbour that has been imported and wraps nothing yet."""
    stand_in = StandIn("openlit.instrumentation.openai.openai")
    monkeypatch.setattr(neighbours, "_loaded", [stand_in.module])
    yield stand_in
    stand_in.unwrap()


@pytest.fixture
def aside(seen: Captured, neighbour: StandIn) -> Callable[[Callable[[Any], object]], bool]:
    """Whether llmwatch stands aside for one call."""

    def call(make: Callable[[Any], object]) -> bool:
        seen.clear()
        with transport.client() as client:
            make(client)
        assert len(seen.spans) <= 1
        return not seen.spans

    return call


def chat(client: Any) -> None:
    client.chat.completions.create(**ASK)


def test_only_what_passes_through_a_neighbour_is_left_to_it(aside: Any, neighbour: StandIn) -> None:
    """Another method of the same route is not covered by a wrapper of ``create``."""
    neighbour.wrap(Completions, "create")
    assert aside(chat)
    assert not aside(lambda client: client.chat.completions.parse(**ASK))
    assert not aside(lambda client: client.embeddings.create(model="m", input="hi"))
    assert len(neighbour.calls) == 1


async def test_awaited_calls_are_left_to_a_neighbour_too(
    seen: Captured, neighbour: StandIn
) -> None:
    """The coroutine of its wrapper is on the stack whenever the call's own one runs."""
    neighbour.wrap(AsyncCompletions, "create")
    async with transport.aclient() as client:
        await client.chat.completions.create(**ASK)
        assert not seen.spans
        await client.chat.completions.parse(**ASK)
    assert len(seen.spans) == 1


def test_what_a_neighbour_wrapped_is_watched_again_once_it_is_gone(
    aside: Any, neighbour: StandIn
) -> None:
    """It is asked at every call, so coming and going needs no word to llmwatch."""
    assert not aside(chat)
    for _ in range(3):
        neighbour.wrap(Completions, "create")
        assert aside(chat)
        neighbour.unwrap()
        assert not aside(chat)


def test_a_wrapper_kept_from_before_is_still_the_neighbours(
    seen: Captured, neighbour: StandIn
) -> None:
    """A raw method cached while the neighbour was on goes through it for ever."""
    neighbour.wrap(Completions, "create")
    with transport.client() as client:
        create = client.chat.completions.with_raw_response.create
        neighbour.unwrap()
        create(**ASK)
        assert not seen.spans
        chat(client)
    assert len(seen.spans) == 1


def test_a_neighbour_beneath_llmwatch_is_seen(neighbour: StandIn) -> None:
    """One that wrapped the client's ``request`` first is what our own wrapper wraps."""
    neighbour.wrap(openai.OpenAI, "request")
    with capture() as seen, transport.client() as client:
        chat(client)
        assert len(neighbour.calls) == 1
        assert not seen.spans


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
def test_a_helper_that_will_be_watched_further_in_is_left_to_the_neighbour(
    seen: Captured, neighbour: StandIn
) -> None:
    """Polling helpers are watched from the outside: what they will call decides."""
    neighbour.wrap(Runs, "create")
    with transport.client() as client:
        client.beta.threads.runs.create_and_poll(thread_id="thread_1", assistant_id="a")
    assert len(neighbour.calls) == 1
    assert not seen.spans


def test_alongside_asks_nobody(neighbour: StandIn) -> None:
    """Told to go on, llmwatch counts what the neighbour counts."""
    neighbour.wrap(Completions, "create")
    with capture(alongside=True) as seen, transport.client() as client:
        chat(client)
    assert len(neighbour.calls) == len(seen.spans) == 1


@pytest.mark.parametrize("active", [True, False])
def test_a_disarmed_wrapper_watches_nothing(active: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """genai-openai's wrappers outlive it, and then only pass calls through."""
    name = "opentelemetry.instrumentation.genai.openai"
    stand_in = StandIn(name)
    state = SimpleNamespace(is_instrumented_by_opentelemetry=active)
    stand_in.module.OpenAIInstrumentor = SimpleNamespace(_instance=state)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, stand_in.module)
    monkeypatch.setattr(neighbours, "_loaded", [stand_in.module])
    wrapped = wrapt.FunctionWrapper(lambda: found.watching(None, "/x"), stand_in.module.count)
    found = Neighbours(alongside=False)
    assert wrapped() == ("opentelemetry-instrumentation-genai-openai" if active else None)


def test_a_name_that_only_begins_alike_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """``…instrumentation.openai_agents`` is not ``…instrumentation.openai``."""
    stand_in = StandIn("opentelemetry.instrumentation.openai_agents")
    monkeypatch.setattr(neighbours, "_loaded", [stand_in.module])
    found = Neighbours(alongside=False)
    assert (
        wrapt.FunctionWrapper(lambda: found.watching(None, "/x"), stand_in.module.count)() is None
    )


def test_each_neighbour_is_told_of_once(
    neighbour: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """However many threads meet it at the same moment."""
    found = Neighbours(alongside=False)
    meet = wrapt.FunctionWrapper(lambda: found.watching(None, "/x"), neighbour.module.count)
    with caplog.at_level(logging.INFO, "llmwatch"), ThreadPoolExecutor(8) as pool:
        names = [future.result() for future in [pool.submit(meet) for _ in range(64)]]
    assert set(names) == {"OpenLIT"}
    (line,) = caplog.messages
    assert "OpenLIT" in line
    assert "/x" in line
    assert "alongside=True" in line


PROGRAM = """
import sys
from llmwatch.sources.openai.neighbours import Neighbours
found = Neighbours(alongside=False)
assert found.watching(None, "/x") is None
import langfuse.openai
assert langfuse.openai.call(lambda: found.watching(None, "/x")) == "Langfuse"
assert found.watching(None, "/x") is None
assert "openai" not in sys.modules
"""


def test_a_neighbour_is_noticed_when_it_is_imported(tmp_path: Path) -> None:
    """Later than llmwatch, and without importing anything on its account."""
    package = tmp_path / "langfuse"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "openai.py").write_text("def call(function):\n    return function()\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_shows_that_a_neighbour_is_there_is_part_of_it() -> None:
    """Each table row speaks of one package."""
    for row in NEIGHBOURS:
        assert f"{row.loaded}.".startswith(f"{row.package}.")
