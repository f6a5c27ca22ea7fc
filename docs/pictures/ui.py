"""Take the pictures of the page from a run of the demo: ``python docs/pictures/ui.py [STORE]``.

Needs what ``nox -s demo`` installs, the extra ``ui``, the package playwright, and Chromium. What is
shown is what the demo recorded, so the numbers differ from run to run; STORE is one that is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from llmwatch.view.records import Filter, RequestRow  # noqa: E402
from llmwatch.view.store import open_view  # noqa: E402
from tests.view.ui.conftest import chromium, serving  # noqa: E402

WIDTH, HEIGHT = 1280, 800


def record(store: Path) -> None:
    """Let the demo fill a store."""
    environment = {**os.environ, "LLMWATCH_STORE_PATH": str(store)}
    subprocess.run([sys.executable, "-m", "llmwatch.demo"], check=True, env=environment, cwd=ROOT)


def address(store: Path, **by: str) -> str:
    """The latest request of a kind, as the page's address has it."""
    with closing(open_view(store)) as view:
        row: RequestRow = view.requests(Filter(**by), limit=1)[0]  # type: ignore[arg-type]
    return f"#/request/{row.trace_id}/{row.span_id}"


def take(browser: Browser, url: str, name: str, scheme: str, height: int = HEIGHT) -> None:
    """One picture."""
    size = {"width": WIDTH, "height": height}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("main[data-ready]")
    page.wait_for_timeout(500)  # charts are drawn in the frame after
    page.screenshot(path=Path(__file__).with_name(f"ui-{name}.png"))
    context.close()


def main(store: Path) -> None:
    """Record what is not there yet, and take all pictures."""
    if not list(store.glob("traces-*.jsonl")):
        record(store)
    with serving(store) as url, sync_playwright() as playwright:
        browser = chromium(playwright)
        take(browser, f"{url}/#/?last=all", "overview", "light")
        take(browser, f"{url}/{address(store, route='chat, streamed')}", "request", "dark", 720)
        take(browser, f"{url}/{address(store, route='batch of 3')}", "local", "light")
        take(browser, f"{url}/#/layers?last=all", "layers", "light", 600)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
