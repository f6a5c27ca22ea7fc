"""What a program serves, under the names that the same metrics have where they came by OTLP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.request import urlopen

from llmwatch.rules.names import exposed, received
from tests.rules.test_files import every_metric

PARTS = ("", "_bucket", "_sum", "_count", "_total")
NAMES = {
    exposed(metric) + part: received(metric) + part for metric in every_metric() for part in PARTS
}


def translated(text: str) -> str:
    """An exposition without comments, and with each name that has another one replaced by it."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    found = (re.sub(r"^\w+", lambda name: NAMES.get(name[0], name[0]), line) for line in lines)
    return "".join(f"{line}\n" for line in found)


@contextmanager
def translating(port: int) -> Iterator[int]:
    """Serve what is served at *port* under the other names; gives the port of that."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with urlopen(f"http://localhost:{port}{self.path}", timeout=10) as answer:
                    body = translated(answer.read().decode()).encode()
            except OSError:  # the program is not there yet, or no more
                self.send_error(502)
                return
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
