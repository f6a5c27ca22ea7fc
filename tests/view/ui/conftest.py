"""A program that is watched, the page over its store as users start it, and a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_nvml import build, can_build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def environment(**more: str) -> dict[str, str]:
    """For programs under test: this checkout, and spans that are written soon."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        **more,
    }


@dataclass
class Recorded:
    """A program that runs, and the store that it writes to."""

    store: Path
    process: subprocess.Popen[str]

    def stream(self, title: str) -> None:
        """Let it make a streamed call whose route is *title*."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"stream {title}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """What `tests.view.ui.program` recorded, and goes on to record."""
    if find_spec("transformers") is None or find_spec("openai") is None:
        pytest.skip("needs the packages transformers and openai")
    folder = tmp_path_factory.mktemp("recorded")
    gpu, more = [], {}
    if can_build():
        script = str(folder / "script")
        gpu = [str(build(folder / "nvml")), script]
        more = {"FAKE_NVML_SCRIPT": script, "FAKE_NVML_LOG": str(folder / "log")}
    command = [sys.executable, "-m", "tests.view.ui.program", str(folder / "store"), *gpu]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            _, said = process.communicate(timeout=30)
            pytest.fail(f"the program ended:\n{said}")
        yield Recorded(folder / "store", process)
        process.communicate("end\n", timeout=30)
        assert process.returncode == 0


@contextmanager
def serving(store: Path, *options: str) -> Iterator[str]:
    """The page over a store, as ``llmwatch ui`` serves it; where it is."""
    command = [sys.executable, "-m", "llmwatch.cli", "ui", "--port", "0", "--path", str(store)]
    command += options
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"llmwatch shows {store} on http://127.0.0.1:")
        yield said.split(" on ")[1].split(" ")[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.fixture(scope="session")
def url(recorded: Recorded) -> Iterator[str]:
    """Where the page over what is recorded is."""
    with serving(recorded.store) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, which the test neither brings nor downloads.

    Playwright holds an event loop that runs: no other module's tests could use asyncio meanwhile.
    """
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    pytest.importorskip("playwright", reason="needs the package playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


def chromium(playwright: Playwright) -> Browser:
    """The Chromium that is installed."""
    flags = ["--no-sandbox"] if os.name != "nt" and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@dataclass
class Opened:
    """A window of the browser, and what happened in it."""

    page: Page
    asked: list[str]
    """Addresses that it asked for anything."""
    wrong: list[str]
    """Errors on its console: of scripts, and of what the policy forbids."""

    def go(self, url: str) -> Page:
        """Open a page of the front end, and wait for its data."""
        self.page.goto("about:blank")  # else only the part behind the # changes
        self.page.goto(url)
        self.page.wait_for_selector("main[data-ready]")
        return self.page


@pytest.fixture
def window(browser: Browser) -> Iterator[Opened]:
    """A window in which nothing may go wrong."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(15_000)
    page = context.new_page()
    opened = Opened(page, [], [])
    page.on("request", lambda request: opened.asked.append(request.url))
    page.on("pageerror", lambda error: opened.wrong.append(str(error)))
    page.on("console", lambda message: _note(opened, message))
    yield opened
    assert page.evaluate("window.hurt") is None
    context.close()
    assert opened.wrong == []


def _note(opened: Opened, message: Any) -> None:
    if message.type == "error":
        opened.wrong.append(message.text)
