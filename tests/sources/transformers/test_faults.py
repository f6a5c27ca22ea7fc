"""A fault in any function of ours never reaches the user: same ids, same exceptions.

Each function and method that runs inside ``generate`` is replaced, one at a time, by one that
raises; the same program must then give the same as without llmwatch.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from llmwatch import _guard
from llmwatch.testing import capture
from tests.sources.transformers import tiny
from tests.sources.transformers.cases import CASES, call, ids_of, one

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

MODULES = (
    "llmwatch.measure.generation",
    "llmwatch.signals.span_attributes",
    "llmwatch.sources.transformers.asking",
    "llmwatch.sources.transformers.cache",
    "llmwatch.sources.transformers.confidence",
    "llmwatch.sources.transformers.generate",
    "llmwatch.sources.transformers.loops",
    "llmwatch.sources.transformers.models",
    "llmwatch.sources.transformers.outcome",
    "llmwatch.sources.transformers.prompt",
    "llmwatch.sources.transformers.request",
    "llmwatch.sources.transformers.streamers",
    "llmwatch.sources.transformers.ticks",
)

CARRIERS = {
    # These *are* the user's call on its way through us: what they do around it is in functions of
    # its own, each of which is broken here.
    "Generations.generate", "Generations._inner", "Generations.validate_length",
    "Generations.prepare_cache", "Generations.get_processors", "Generations.get_criteria",
    "Generations.get_drafter", "Generations.goes_on", "Homes._built",
    # The whole body of these is inside a guard; what they call is broken here.
    "Generations.begin", "Call.enter", "Call.leave", "Call.fail", "Call.end",
    "Generations.patches", "Homes.patches",  # while nothing runs
    "ask",  # a pipeline's: tested there
}  # fmt: skip


def functions() -> Iterator[tuple[Any, str, str]]:
    """Owner, attribute and label of everything that runs inside a user's call."""
    for module in map(importlib.import_module, MODULES):
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield module, name, name
            elif inspect.isclass(value):
                for method, function in list(vars(value).items()):
                    mine = method[:2] != "__" or method == "__init__"
                    if inspect.isfunction(function) and mine:
                        yield value, method, f"{name}.{method}"


BROKEN = [
    pytest.param(owner, name, id=label)
    for owner, name, label in functions()
    if label not in CARRIERS
]


def program() -> list[Any]:
    """Some of everything, and what the user gets of it."""
    cases = [CASES[name] for name in ("ends", "sample", "assisted")]
    seen = [ids_of(call(case, max_new_tokens=4)).tolist() for case in cases]
    with pytest.raises(ValueError, match="nonsense") as caught:
        tiny.llama().generate(**one(), nonsense=1)
    return [*seen, str(caught.value)]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """What the program gives without llmwatch."""
    return program()


def test_the_program_gives_the_same_with_llmwatch(expected: list[Any]) -> None:
    with capture(confidence=True, timeline=True, sources=["transformers"]) as seen:
        assert program() == expected
    assert len(seen.spans) == 4


def test_there_is_much_to_break() -> None:
    """The enumeration finds our functions: a check that could not fail would prove nothing."""
    assert len(BROKEN) > 70


@pytest.mark.parametrize(("owner", "name"), BROKEN)
def test_a_fault_in_one_function_never_reaches_the_user(
    monkeypatch: pytest.MonkeyPatch, expected: list[Any], owner: Any, name: str
) -> None:
    """Whatever breaks inside, the user's program is the same."""
    monkeypatch.setattr(_guard, "strict", False)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"injected into {name}")

    with capture(confidence=True, timeline=True, sources=["transformers"]):
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, fail)
            assert program() == expected
        _guard.reset()
