"""A drift that is raised and cleared, on real sentence embeddings that ship with the demo.

The vectors are MiniLM's of glosses of WordNet, on their 96 main directions and cut to 8 bits; the
foreign ones are of verses of the King James Bible. The texts are not in there. Licences: WordNet's
for the glosses, Apache-2.0 for the model; the verses are in the public domain.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from llmwatch.drift import registry
from llmwatch.drift.monitor import DriftMonitor

if TYPE_CHECKING:
    from rich.console import Console

    from llmwatch.drift.detector import Change
    from llmwatch.drift.status import KeyStatus

REFERENCE, WINDOW = 800, 200
SCENES = (("glosses", 0.0, 400), ("a quarter are verses", 0.25, 600), ("glosses again", 0.0, 800))
"""What comes, the share of foreign sentences in it, and how many sentences."""


def show(console: Console) -> list[Change]:
    """Play the scenes and print what the monitor says; the alarms, in their order. Takes 2 s."""
    with (files("llmwatch.demo") / "drift.npz").open("rb") as file, np.load(file) as data:
        usual, foreign = (
            data[name].astype(np.float32) * data["scale"] for name in ("usual", "foreign")
        )
    random = np.random.default_rng(0)
    told: list[Change] = []

    def listen(monitor: DriftMonitor, change: Change, status: KeyStatus) -> None:
        if monitor is watched:
            told.append(change)
            color = "red" if change == "raised" else "green"
            verdict = status.verdict
            assert verdict is not None
            console.print(
                f"  [bold {color}]{change}[/]  p = {verdict.p_value:.2g}, "
                f"effect {verdict.effect:.0%}, most foreign: {', '.join(status.foreign_ids)}"
            )

    console.print("[bold]Embedding drift[/]  [dim]sentences of another kind arrive, then none[/]")
    watched = DriftMonitor("sentences", usual[:REFERENCE], window=WINDOW)
    watched.wait()
    registry.listeners.append(listen)
    try:
        for title, share, many in SCENES:
            console.print(f"  [cyan]{title}[/] [dim]{many} sentences[/]")
            strange = random.random(many) < share
            for index in range(many):
                pool, name = (foreign, "verse") if strange[index] else (usual[REFERENCE:], "gloss")
                pick = int(random.integers(len(pool)))
                watched.add(pool[pick], ids=f"{name} {pick}")
            watched.flush()
    finally:
        registry.listeners.remove(listen)
    return told
