"""Hugging Face transformers: every token that a model of this process generates."""

from __future__ import annotations

from llmwatch.patching import Patches
from llmwatch.signals.operation import Signals
from llmwatch.sources.transformers.generate import Generations
from llmwatch.sources.transformers.pipelines import Pipelines
from llmwatch.sources.transformers.streamers import Homes


class Installed:
    """What `install` put in place.

    Args:
        tables: Undone in reverse order.
    """

    def __init__(self, *tables: Patches) -> None:
        self._tables = tables

    def undo(self) -> None:
        """Undo everything, exactly."""
        for patches in reversed(self._tables):
            patches.undo()


def install(signals: Signals) -> Installed:
    """Watch every model of transformers in this process, those that exist already too.

    Imports nothing of the library: patches are applied when it is imported.
    """
    homes = Homes()
    generations = Generations(signals, homes)
    table = [*generations.patches(), *homes.patches(), *Pipelines(signals).patches()]
    patches = Patches("transformers", table)
    patches.install()
    return Installed(patches, generations.on_devices)
