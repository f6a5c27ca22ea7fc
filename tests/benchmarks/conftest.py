"""What the benchmarks share: workers, how thorough to be, and the table that is published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.processes import Process
from tests.benchmarks.table import Row, written

_ROWS: pytest.StashKey[dict[tuple[str, int, str], Row]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ``nox -s bench``."""
    group = parser.getgroup("overhead")
    group.addoption(
        "--quick",
        action="store_true",
        help="few rounds, and no judgement: to see whether it all works",
    )
    group.addoption("--publish", metavar="PATH", type=Path, help="write the figures as a table")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no figures."""
    config.stash[_ROWS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Benchmarks take longer than tests may."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the figures, and publish them if asked."""
    rows = config.stash[_ROWS]
    if not rows:
        return
    text = written(rows[key] for key in sorted(rows))
    terminalreporter.write_sep("-", "overhead")
    terminalreporter.write(text)
    if (path := config.getoption("--publish")) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def overhead(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``overhead(part, what, value, baseline, judged, most)``: note a `Row`, and judge it."""
    file, line, _ = request.node.location
    quick = request.config.getoption("--quick")

    def note(*fields: Any, unit: str = "") -> None:
        row = Row(*fields, unit)
        request.config.stash[_ROWS][file, line or 0, row.what] = row
        assert quick or row.judged <= row.most, row

    return note


@pytest.fixture(scope="session")
def worker() -> Iterator[Process]:
    """A worker that has its time measured."""
    made = Process()
    yield made
    made.close()


@pytest.fixture(scope="session")
def turns(request: pytest.FixtureRequest) -> int:
    """How many turns workers take."""
    return 3 if request.config.getoption("--quick") else 40
