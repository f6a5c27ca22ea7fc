"""sentence-transformers: every ``encode`` and ``predict``, however it is called."""

from __future__ import annotations

from llmwatch.patching import Patches
from llmwatch.signals.operation import Signals
from llmwatch.sources.sentence_transformers.calls import Calls


def install(signals: Signals) -> Patches:
    """Watch every model of this process, those that exist already too.

    Imports nothing of the library: patches are applied when it is imported.
    """
    patches = Patches("sentence_transformers", Calls(signals).patches())
    patches.install()
    return patches
