"""The demo server: the OpenAI API on 127.0.0.1, with scripted timing and faults.

It records, for every request, when it received it and when it wrote each part of the answer; those
stamps are the truth that measurements are compared with. From a shell:
``python -m llmwatch.demo.server`` serves until interrupted.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from types import TracebackType
from typing import Self

from llmwatch.demo.answers import Store, answer, malformed, refusal
from llmwatch.demo.script import Script
from llmwatch.demo.wire import Answer, Connection, Exchange


class Server:
    """An OpenAI-compatible server in a thread of its own, for the length of a ``with`` block.

    Each request is answered by the script in its ``x-llmwatch-script`` header; else by the next one
    given to `enqueue`; else by the default.

    Args:
        script: The default script.
        port: TCP port on 127.0.0.1; 0 takes a free one.
    """

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self.script = script or Script()
        self.port = port
        self.exchanges: list[Exchange] = []
        """Every request so far, in the order of receipt."""
        self._queue: deque[Script] = deque()
        self._store = Store()
        self._connections: set[Connection] = set()
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def base_url(self) -> str:
        """What to give to a client as ``base_url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Exchange:
        """The latest request."""
        return self.exchanges[-1]

    def enqueue(self, *scripts: Script) -> None:
        """Answer the next requests by *scripts*, one each."""
        self._queue.extend(scripts)

    def clear(self) -> None:
        """Forget the requests so far, and the scripts not yet used."""
        self.exchanges.clear()
        self._queue.clear()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="llmwatch-demo-server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except OSError as error:  # the port is taken: told to whoever entered the block
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self._handle, self._connections), "127.0.0.1", self.port, backlog=512
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _handle(self, exchange: Exchange) -> tuple[Script, Answer]:
        self.exchanges.append(exchange)
        exchange.request_id = f"req_{id(exchange):x}{len(self.exchanges):06x}"
        try:
            script = self._script(exchange)
            if script.status >= 400:
                return script, refusal(exchange, script)
            return script, answer(exchange, script, self._store)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            return self.script, malformed(exchange, error)

    def _script(self, exchange: Exchange) -> Script:
        if (script := Script.of(exchange.headers)) is not None:
            return script
        return self._queue.popleft() if self._queue else self.script


def main() -> None:
    """Serve until interrupted; the port is the only argument (default: a free one)."""
    with Server(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as server:
        print(f"OpenAI-compatible server: base_url={server.base_url} (Ctrl-C stops it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
