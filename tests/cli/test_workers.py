"""Workers of a server, each of which Prometheus asks by itself."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.cli import programs
from tests.export.test_prometheus import consecutive, served

COUNT = "llmwatch.signals.active.signals.start('chat', 'p', 'm', {}).finish()"
WSGI = f"""
import os, llmwatch.signals.active

def application(environ, start_response):
    {COUNT}
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
ASGI = f"""
import os, llmwatch.signals.active

async def application(scope, receive, send):
    if scope["type"] == "http":
        {COUNT}
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})
"""
GUNICORN = ["--no-control-socket", "--log-level", "error", "--bind", "127.0.0.1:{}"]
SERVERS = {
    "gunicorn": (WSGI, GUNICORN),
    "gunicorn preloading": (WSGI, [*GUNICORN, "--preload"]),
    "uvicorn": (ASGI, ["--log-level", "error", "--port", "{}"]),
}
PORTS = 6
"""The server's own process and two workers; helpers of multiprocessing are programs, too."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.mark.parametrize("name", SERVERS)
def test_each_worker_is_asked_on_a_port_of_its_own(tmp_path: Path, name: str) -> None:
    """A range of ports is enough: what all of them count is what was served, by worker."""
    pytest.importorskip("prometheus_client")
    pytest.importorskip(name.partition(" ")[0])
    first, web = consecutive(PORTS), consecutive(1)
    answered: Counter[str] = Counter()
    with _server(tmp_path, name, web, f"{first}-{first + PORTS - 1}"):
        deadline = monotonic() + 60
        while len(answered) < 2 or answered.total() < 6:
            assert monotonic() < deadline
            try:
                with urlopen(f"http://127.0.0.1:{web}/", timeout=10) as answer:
                    answered[answer.read().decode()] += 1
            except OSError:  # it does not listen yet
                sleep(0.1)
        counted = sorted(_counts(first))
    assert counted == sorted(answered.values())


@contextmanager
def _server(folder: Path, name: str, web: int, ports: str) -> Iterator[None]:
    program, arguments = SERVERS[name]
    (folder / "program.py").write_text(program)
    process = programs.start(
        folder, "run", "--prometheus-port", ports,
        name.partition(" ")[0], "--workers", "2", *(each.format(web) for each in arguments),
        "program:application",
        XDG_STATE_HOME=str(folder),
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def _counts(first: int) -> Iterator[int]:
    """What each port says that was counted there."""
    for port in range(first, first + PORTS):
        try:
            samples = served(port)
        except URLError:  # nobody took it
            continue
        for each in samples:
            if each.name == "gen_ai_client_operation_duration_seconds_count":
                yield int(each.value)
