"""What tests of metrics share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.signals.measured import Made


@pytest.fixture
def made() -> Iterator[Made]:
    made = Made()
    yield made
    made.undo()
