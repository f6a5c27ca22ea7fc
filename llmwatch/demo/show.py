"""One run of the demo: what it is drawn on, and where llmwatch writes what it sees."""

from __future__ import annotations

from pathlib import Path
from time import time_ns
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule

import llmwatch
from llmwatch.export.store_reader import StoredPoint, StoredSpan, read_metrics, read_spans


class Show:
    """Instrumented inside its block.

    Args:
        console: What to draw on.
        where: The folder of the embedded store.
    """

    def __init__(self, console: Console, where: Path) -> None:
        self.console = console
        self.where = where
        self._begun = self._seen = time_ns()

    def __enter__(self) -> Self:
        llmwatch.instrument(
            service_name="llmwatch-demo",
            store_path=str(self.where),
            timeline=True,
            confidence=True,
            layer_spans=6,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        llmwatch.uninstrument()

    @property
    def width(self) -> int:
        """Columns."""
        return self.console.width

    def headline(self, text: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.print(Rule(f"[bold]{text}[/]", align="left", style="dim"))

    def print(self, *things: RenderableType) -> None:
        """Draw things, one below the other."""
        for thing in things:
            self.console.print(thing)

    def progress(self) -> Progress:
        """A bar for what takes time; nothing where nobody watches."""
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            refresh_per_second=4,  # it takes time from what is measured
        )

    def new_spans(self) -> list[StoredSpan]:
        """What was stored since this was last asked, in the order of the starts."""
        llmwatch.flush()
        since, self._seen = self._seen, time_ns()
        spans = [span for span in read_spans(self.where) if span.start >= since]
        return sorted(spans, key=lambda span: span.start)

    def points(self) -> list[StoredPoint]:
        """The metrics of this run."""
        return [point for point in read_metrics(self.where) if point.time >= self._begun]
