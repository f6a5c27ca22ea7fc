"""Hugging Face transformers: every token that a model of this process generates."""

from __future__ import annotations

from llmwatch.patching import Patches
from llmwatch.signals.operation import Signals
from llmwatch.sources.transformers import serving
from llmwatch.sources.transformers.batching import Batching
from llmwatch.sources.transformers.generate import Generations
from llmwatch.sources.transformers.pipelines import Pipelines
from llmwatch.sources.transformers.streamers import Homes


class Installed:
    """What `install` put in place.

    Args:
        parts: Undone in reverse order.
    """

    def __init__(self, *parts: Patches | Batching) -> None:
        self._parts = parts

    def undo(self) -> None:
        """Undo everything, exactly."""
        for part in reversed(self._parts):
            part.undo()


def install(signals: Signals) -> Installed:
    """Watch every model of transformers in this process, those that exist already too.

    Imports nothing of the library: patches are applied when it is imported.
    """
    homes = Homes()
    generations = Generations(signals, homes)
    batching = Batching(signals)
    table = [
        *generations.patches(),
        *homes.patches(),
        *Pipelines(signals).patches(),
        *batching.patches(),
        *serving.patches(),
    ]
    patches = Patches("transformers", table)
    patches.install()
    return Installed(batching, patches, generations.on_devices)
