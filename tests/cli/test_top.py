"""``llmwatch top`` in a terminal and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any

import pytest
from openai import OpenAI

import llmwatch
from llmwatch.demo.server import Server
from tests.cli import programs

pytest.importorskip("textual")


def top(folder: Path, *arguments: str, **more: str) -> Any:
    return programs.llmwatch(folder, "top", *arguments, **more)


def test_one_look_as_text_shows_what_a_program_stored(
    tmp_path: Path, client: OpenAI, server: Server
) -> None:
    """In plain characters, without codes, also where nobody asked for it but nobody looks."""
    store = tmp_path / "store"
    llmwatch.instrument(store_path=str(store), service_name="shop")
    with llmwatch.attributes(route="/harbour"):
        for _ in range(3):
            client.chat.completions.create(model="gpt-4o", messages=[])
    llmwatch.uninstrument()
    for arguments in (("--once", "--path", str(store)), ("--path", str(store))):
        ran = top(tmp_path, *arguments, COLUMNS="120")
        assert ran.returncode == 0, ran.stderr
        assert "\x1b" not in ran.stdout
        assert "3 operations" in ran.stdout
        (row,) = [line for line in ran.stdout.splitlines() if line.startswith("chat")]
        assert row.split()[:4] == ["chat", "gpt-4o", "/harbour", "3"]
        assert all(len(line) <= 120 for line in ran.stdout.splitlines())
    variable = {"LLMWATCH_STORE_PATH": str(store), "COLUMNS": "70"}
    ran = top(tmp_path, "--once", **variable)
    assert "3 operations" in ran.stdout
    assert all(len(line) <= 70 for line in ran.stdout.splitlines())


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """And makes nothing where there was nothing."""
    ran = top(tmp_path, "--once", "--path", "none")
    assert ran.returncode == 0, ran.stderr
    assert "llmwatch run --store-path none app.py" in ran.stdout
    assert not (tmp_path / "none").exists()


def test_longer_than_any_store_is_all(tmp_path: Path) -> None:
    ran = top(tmp_path, "--once", "--since", "99999999999d", "--path", ".")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("arguments", [("--since", "soon"), ("--listen", "70000"),
                                       ("--once", "--listen", "0")])  # fmt: skip
def test_options_that_cannot_be_used(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and a line that says why."""
    ran = top(tmp_path, *arguments)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_it_takes_the_terminal_listens_and_gives_it_back(tmp_path: Path) -> None:
    """A program elsewhere sends to the port that the screen names; q ends it."""
    import pty
    import termios

    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (30, 100))
    process = subprocess.Popen(
        [*programs.LLMWATCH, "top", "--path", str(tmp_path / "store"), "--listen", "0"],
        env=programs.environment(TERM="xterm-256color"),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        shown = read_until(terminal, b"on port ")
        port = int(shown.partition(b"on port ")[2].split()[0])
        send(port)
        read_until(terminal, b"gpt-elsewhere")
        os.write(terminal, b"q")
        read_until(terminal, b"\x1b[?1049l")  # the screen as it was
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def read_until(terminal: int, text: bytes) -> bytes:
    """What the terminal is told, up to a text and a little more."""
    found = b""
    end = monotonic() + 60
    while text not in found or found.endswith(text):
        assert monotonic() < end, found[-2000:]
        try:
            found += os.read(terminal, 65_536)
        except OSError:  # closed
            assert text in found, found[-2000:]
            break
        sleep(0.01)
    return found


def send(port: int) -> None:
    """One span of a program that knows nothing of us."""
    import httpx2

    now = time_ns()
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "chat gpt-elsewhere",
        "kind": 3,
        "startTimeUnixNano": str(now - 10**9),
        "endTimeUnixNano": str(now),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-elsewhere"}},
        ],
    }
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    httpx2.post(f"http://127.0.0.1:{port}/v1/traces", json=body).raise_for_status()
