"""Three streams at once in one event loop.

    python examples/async_streams.py

The program loses patience with the last one; its span ends all the same.
"""

from __future__ import annotations

import asyncio
import tempfile

from _server import Script, a_model
from openai import AsyncOpenAI

import llmwatch
from llmwatch.export.store_reader import read_spans

PATIENCE = {"Oslo": 60.0, "Lisbon": 60.0, "Valletta": 0.3}
"""Seconds that each answer may take."""


async def describe(client: AsyncOpenAI, city: str) -> None:
    """Read one answer; the attribute follows this task, not the others."""
    with llmwatch.attributes(city=city):
        stream = await client.chat.completions.create(
            model="gpt-4.1-mini",
            messages=[{"role": "user", "content": f"Describe the harbour of {city}, briefly."}],
            stream=True,
        )
        async with asyncio.timeout(PATIENCE[city]):
            async for _ in stream:
                pass


async def main() -> None:
    """Start all three, and wait for them."""
    async with AsyncOpenAI() as client:
        tasks = [describe(client, city) for city in PATIENCE]
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="async-example", store_path=store)
    with a_model(*[Script(delays=(0.1, 0.02), chunks=30)] * len(PATIENCE)):
        asyncio.run(main())
    llmwatch.shutdown()
    for span in read_spans(store):
        found = span.attributes
        print(
            f"{found['city']:9} {found['llmwatch.stream.ending']:10} "
            f"{found['llmwatch.stream.chunks']:3} chunks in {span.duration:.2f} s"
        )
