"""Programs that know nothing of llmwatch, run by its command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LLMWATCH = [sys.executable, "-m", "llmwatch.cli"]

ASK = """
import os, sys
from openai import OpenAI

def ask():
    client = OpenAI(base_url=os.environ["BASE_URL"], api_key="sk-program", max_retries=0)
    with client:
        messages = [{"role": "user", "content": "why?"}]
        return client.chat.completions.create(model="gpt-4o", messages=messages)
"""
"""A module that asks a model."""


def environment(**more: str) -> dict[str, str]:
    """That of this process without settings, and *more*; our own failures raise."""
    ours = ("OTEL_", "LLMWATCH_", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"LLMWATCH_STRICT": "1", "LLMWATCH_FLUSH_TIMEOUT": "3"} | more


def start(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start ``llmwatch`` with *arguments* in *folder*."""
    return subprocess.Popen(
        [*LLMWATCH, *arguments],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def llmwatch(
    folder: Path, *arguments: str, given: str = "", **more: str
) -> subprocess.CompletedProcess[Any]:
    """Run ``llmwatch`` to its end."""
    process = start(folder, *arguments, **more)
    out, err = process.communicate(given, timeout=100)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
