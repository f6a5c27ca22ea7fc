"""The demo: real OpenAI clients talk to a local server, and llmwatch shows what it saw.

No key, no network: ``python -m llmwatch.demo``. What is shown is read back from the files that
llmwatch wrote, in ``LLMWATCH_STORE_PATH`` or a new temporary directory.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

import llmwatch
from llmwatch._optional import require

if TYPE_CHECKING:
    from rich.console import Console

    from llmwatch.demo.scenes import Stage

PIPED_WIDTH = 100
"""Columns where the output is no terminal and ``COLUMNS`` does not say."""


def main() -> int:
    """Play all scenes, and report; 1 where the extra is missing."""
    try:
        for package in ("rich", "openai"):
            require(package, extra="demo")
    except llmwatch.MissingExtraError as error:
        print(error, file=sys.stderr)
        return 1
    console = _console()
    where = Path(os.environ.get("LLMWATCH_STORE_PATH") or tempfile.mkdtemp(prefix="llmwatch-demo-"))
    _forget_settings()
    llmwatch.instrument(service_name="llmwatch-demo", store_path=str(where), timeline=True)
    try:
        begun = time_ns()
        stage = _play(console)
        llmwatch.flush()
    finally:
        llmwatch.uninstrument()
    _report(console, stage, where, begun)
    return 0


def _console() -> Console:
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without our signs shows "?"
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPED_WIDTH if piped else None, highlight=False)


def _forget_settings() -> None:
    """Take no settings from the environment: they may send what we want to read elsewhere."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LLMWATCH_")):
            del os.environ[name]


def _play(console: Console) -> Stage:
    from openai import OpenAI
    from rich.progress import Progress

    from llmwatch.demo.scenes import SCENES, Stage
    from llmwatch.demo.server import Server

    started = perf_counter()
    with (
        Server() as server,
        OpenAI(base_url=server.base_url, api_key="sk-demo") as client,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        stage = Stage(server, client)
        task = progress.add_task("", total=len(SCENES))
        for scene in SCENES:
            progress.update(task, description=scene.title)
            stage.play(scene)
            progress.advance(task)
        requests = len(server.exchanges)
    took = perf_counter() - started
    console.print(
        f"[bold]llmwatch {llmwatch.__version__}[/]: {len(SCENES)} scenes, {requests} requests to a "
        f"local OpenAI-compatible server, {took:.1f} s"
    )
    return stage


def _report(console: Console, stage: Stage, where: Path, begun: int) -> None:
    from llmwatch.demo import report
    from llmwatch.demo.scenes import THE_STREAM
    from llmwatch.export.store_reader import read_metrics, read_spans
    from llmwatch.semconv import ROUTE

    spans = [span for span in read_spans(where) if span.start >= begun]
    spans.sort(key=lambda span: span.start)
    points = (point for point in read_metrics(where) if point.time >= begun)
    closely = next(span for span in spans if span.attributes.get(ROUTE) == THE_STREAM)
    console.print(report.operations(spans, console.width))
    console.print(report.stream(closely, stage.exchanges[THE_STREAM][0], console.width))
    console.print(report.metrics(points))
    console.print(report.files(where), soft_wrap=True)
    console.print(report.NEXT)


if __name__ == "__main__":
    sys.exit(main())
