"""Who answers the examples: a local server, unless you name one of your own.

With OPENAI_API_KEY or OPENAI_BASE_URL set, the examples talk to that; else they need neither a key
nor a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from llmwatch.demo.script import Script
from llmwatch.demo.server import Server


@contextmanager
def a_model(*answers: Script) -> Iterator[None]:
    """Let ``OpenAI()`` reach a model for the length of a block.

    Args:
        answers: How the local server answers the first requests; the next ones it answers at once.
    """
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        yield
        return
    with Server() as server:
        server.enqueue(*answers)
        os.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-local"}
        yield
