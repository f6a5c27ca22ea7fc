"""What the demo server answers: bodies and event streams in the shapes of the OpenAI API.

Pure functions from a `Call` to an `Answer`; nothing here knows of sockets or time. The shapes are
held to the installed client by tests that validate every answer strictly.
"""

from __future__ import annotations

from llmwatch.demo.answers.common import Store
from llmwatch.demo.answers.route import answer, malformed, refusal

__all__ = ["Store", "answer", "malformed", "refusal"]
