"""What the tests of the OpenAI source share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmwatch import _guard, semconv
from llmwatch.testing import Captured, capture


@pytest.fixture
def seen() -> Iterator[Captured]:
    """Everything that llmwatch emits during the test."""
    with capture() as captured:
        yield captured


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swallow our own failures, as outside of tests."""
    monkeypatch.setattr(_guard, "strict", False)


@pytest.fixture
def the_span(seen: Captured) -> Callable[[], Any]:
    """The one span there must be."""

    def one() -> Any:
        (span,) = seen.spans
        assert span.attributes[semconv.PROVIDER_NAME] == "openai"
        return span

    return one
