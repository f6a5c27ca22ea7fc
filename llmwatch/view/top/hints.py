"""What is said where there is nothing to show: why, and what to do next."""

from __future__ import annotations

from pathlib import Path

from llmwatch.view.numbers import age
from llmwatch.view.top.frame import Frame
from llmwatch.view.top.pieces import Line, Piece, clean


def _says(*lines: str) -> list[Line]:
    """Lines in which `…` is code."""
    return [
        [
            Piece(part, "name" if at % 2 else "plain")
            for at, part in enumerate(line.split("`"))
            if part
        ]
        for line in lines
    ]


def nothing_yet(where: Path | None, port: int | None) -> list[Line]:
    """The store is empty."""
    if port is not None:
        return _says(
            f"Nothing has arrived on port {port} yet.",
            "",
            "Tell a program to send here:",
            f"  `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{port} llmwatch run app.py`",
        )
    return _says(
        "Nothing is stored yet.",
        f"  {where}",
        "",
        "Watch a program, and it shows here at once:",
        f"  `llmwatch run --store-path {where} app.py`",
        f"  `llmwatch.instrument(store_path={str(where)!r})` in its code",
        "",
        "Or try it:  `llmwatch demo`",
    )


def nothing_now(frame: Frame) -> list[Line]:
    """There is something, but not in what is looked at."""
    latest = frame.latest
    if latest is None:
        return []
    ago = age((frame.time - latest.start) / 1e9)
    found = f"The latest operation began {ago} ago: {clean(latest.operation)}"
    if latest.model is not None:
        found += f" {clean(latest.model)}"
    if frame.look.narrowed:
        return _says(
            "No operation fits.",
            found + ".",
            "`escape` shows all again, `t` looks further back.",
        )
    return _says("No operation in this time.", found + ".", "`t` looks further back.")


MACHINE = _says("Nobody reported it in this time.", "The extra `host` reads CPU and memory; GPUs",
                "are read where there are any.")  # fmt: skip
LAYERS = _says("No layer was timed in this time.", "`llmwatch.watch_layers(model)`, or",
               "`instrument(layers=True)` for transformers.")  # fmt: skip
SIGNS = _says(
    "No monitor of drift, no finding.",
    "`instrument(drift=…)` watches embeddings,",
    "`llmwatch.watch_layers(model)` finds what is wrong with layers.",
)
