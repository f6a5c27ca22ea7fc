"""Draw the pictures of ``llmwatch top``: ``python docs/pictures/top.py``.

Needs the extras ``top``, ``demo``, ``cost`` and ``transformers``, and the model of the demo. A real
client calls a local server and a real model generates, both watched; then the app itself is asked
for its screen. Nothing is staged but how long the server takes.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import openai

import llmwatch
from llmwatch.demo import drift, smollm2
from llmwatch.demo.scenes import MESSAGES, USAGE, tokens
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from llmwatch.semconv import STREAM_STALLS
from llmwatch.view.records import RequestRow, View
from llmwatch.view.store import open_view
from llmwatch.view.top.app import Top

HERE = Path(__file__).parent
SIZE = (150, 45)
"""Columns and lines."""

QUESTIONS = (
    "Describe a harbour at dusk.",
    "When does the ferry leave?",
    "Who keeps the lighthouse?",
)


def main() -> None:
    """Make a store, and draw what the app shows of it."""
    where = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="llmwatch-top-"))
    if not where.is_dir() or not any(where.glob("traces-*")):
        watch(where)
    asyncio.run(draw(where))


# --- a program -----------------------------------------------------------------------------------


def watch(where: Path, seconds: float = 75.0) -> None:
    """Be a program with a client, a model and embeddings, and watch it."""
    llmwatch.instrument(
        service_name="harbour", store_path=str(where), timeline=True, export_interval=1.0
    )
    model, tokenizer = smollm2.load()
    with (
        Server() as server,
        openai.OpenAI(base_url=server.base_url, api_key="sk-demo", max_retries=0) as client,
        ThreadPoolExecutor(3) as users,
        llmwatch.watch_layers(model, ["blocks", "*.self_attn", "*.mlp"], every=4) as watcher,
    ):
        end = monotonic() + seconds
        users.map(lambda user: use(client, Random(user), end), range(3))  # noqa: S311 - no secret
        while monotonic() < end:
            watcher.sample_now()  # the prefill
            generate(model, tokenizer, QUESTIONS[0])
    drift.show(quiet())
    llmwatch.uninstrument()


def use(client: openai.OpenAI, random: Random, end: float) -> None:
    """One user after the other, until the time is over."""
    calls = {"/answer": answer, "/summary": summarise, "/search": search}
    while monotonic() < end:
        (route,) = random.choices(list(calls), (5, 3, 4))
        with llmwatch.attributes(route=route), suppress(openai.OpenAIError):
            calls[route](client, random)


def answer(client: openai.OpenAI, random: Random) -> None:
    """A long stream, which sometimes stalls, breaks, or is refused."""
    delays = list(tokens(random.uniform(0.2, 0.6), 0.025, 60, seed=random.randrange(1000)))
    kind = random.random()
    if kind < 0.2:
        delays[12] = random.uniform(1.1, 1.6)
    script = Script(delay=0.02, delays=tuple(delays), chunks=60, cached_tokens=8)
    if kind > 0.95:
        script = Script(status=429)
    elif kind > 0.9:
        script = Script(delays=tuple(delays), chunks=60, fault="drop", fault_after=20)
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        stream=True,
        stream_options=USAGE,
        extra_headers=script.headers,
    )
    for _ in stream:
        pass


def summarise(client: openai.OpenAI, random: Random) -> None:
    """A short answer of a smaller model, at once."""
    script = Script(delay=random.lognormvariate(-1.0, 0.4), chunks=40)
    client.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_headers=script.headers
    )


@llmwatch.watch(name="guide", operation="invoke_agent", provider="local")
def search(client: openai.OpenAI, random: Random) -> None:
    """An embedding, then an answer: two calls in one trace."""
    quick = Script(delay=random.uniform(0.03, 0.08))
    client.embeddings.create(
        model="text-embedding-3-small", input=QUESTIONS[1], extra_headers=quick.headers
    )
    delays = tokens(random.uniform(0.1, 0.3), 0.015, 30, seed=random.randrange(1000))
    script = Script(delays=delays, chunks=30)
    stream: Any = client.responses.create(
        model="gpt-4.1-mini", input=QUESTIONS[2], stream=True, extra_headers=script.headers
    )
    for _ in stream:
        pass


def generate(model: Any, tokenizer: Any, question: str) -> None:
    """The model in this process answers."""
    messages = [{"role": "user", "content": question}]
    given = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with llmwatch.attributes(route="/local"):
        model.generate(**given, max_new_tokens=16, do_sample=False, pad_token_id=0)


def quiet() -> Any:
    """A console that nobody sees."""
    import io

    from rich.console import Console

    return Console(file=io.StringIO())


# --- pictures ------------------------------------------------------------------------------------


async def draw(where: Path) -> None:
    """The panels, and one stream that stalled."""
    app = Top(lambda progress: open_view(where, progress), where=where)
    async with app.run_test(size=SIZE) as pilot:
        while app.frame is None or not app.frame.requests:
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        save(app, "top.svg", "llmwatch top")
        with closing(open_view(where)) as view:
            rows = app.panels.requests.rows
            at = next(at for at, row in enumerate(rows) if stalled(view, row))
        app.panels.requests.action_move(at)
        await pilot.press("enter")
        await pilot.pause(1)
        save(app, "top-request.svg", "llmwatch top: one request")


def stalled(view: View, row: RequestRow) -> bool:
    """A whole stream with a stall in what is in sight of it."""
    found = view.request(row.trace_id, row.span_id)
    if found is None or row.outcome != "ok":
        return False
    seen = pairwise(found.tokens[:20])
    return bool(found.spans[0].attributes.get(STREAM_STALLS)) and any(b - a > 1 for a, b in seen)


def save(app: Top, name: str, title: str) -> None:
    """Write the screen, without fonts from the network."""
    drawn = app.export_screenshot(title=title)
    drawn = "".join(plain(drawn))
    (HERE / name).write_text(drawn)


def plain(drawn: str) -> Iterator[str]:
    """What is left without the fonts; a page that shows a picture loads none anyway."""
    yield re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    main()
