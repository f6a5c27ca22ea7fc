"""Use the installed package once, as a program of a user would. Run by ``nox -s smoke``."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points, version
from pathlib import Path

import llmwatch
from llmwatch import testing

checkout = Path(__file__).resolve().parent.parent
assert checkout not in Path(llmwatch.__file__).parents, "the checkout is tested, not the wheel"
assert llmwatch.__version__ == version("llmwatch-otel")


@llmwatch.watch(model="tiny", provider="me")
def answer(question: str) -> str:
    """Stand in for a model."""
    return question.upper()


with testing.capture() as seen:
    assert answer("why?") == "WHY?"
assert len(seen.spans) == 1, seen.spans

(point,) = entry_points(group="opentelemetry_instrumentor", name="llmwatch")
assert point.load().__name__ == "LlmwatchInstrumentor"

llmwatch.instrument()
llmwatch.instrument()
llmwatch.uninstrument()
llmwatch.uninstrument()
logging.getLogger("llmwatch").info("smoke test passed")
print("llmwatch", llmwatch.__version__, "works here")
