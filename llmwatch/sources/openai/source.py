"""OpenAI and compatible clients: every request that causes inference, streamed or not."""

from __future__ import annotations

from llmwatch.patching import Patches
from llmwatch.signals.operation import Signals
from llmwatch.sources.openai import neighbours, polling, websocket
from llmwatch.sources.openai.calls import Calls


def install(signals: Signals) -> Patches:
    """Watch every OpenAI client of this process, those that exist already too.

    Imports nothing of the library: patches are applied when it is imported.
    """
    calls = Calls(signals)
    table = [
        *calls.patches(),
        *polling.patches(calls),
        *websocket.patches(signals, calls.neighbours),
        *neighbours.patches(calls.request, calls.arequest),
    ]
    patches = Patches("openai", table)
    patches.install()
    return patches
