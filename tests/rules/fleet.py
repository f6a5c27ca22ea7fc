"""A real Prometheus and a real Alertmanager on loopback, and who they tell."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout: float, what: Callable[[], object]) -> None:
    """Return as soon as *condition* holds; fail after *timeout* seconds, showing *what*."""
    deadline = monotonic() + timeout
    while not condition():
        assert monotonic() < deadline, what()
        sleep(0.1)


class Listener:
    """An http server on a thread, that answers 200 to every POST.

    Args:
        heard: Called with the body of each.
        port: Where; 0 takes a free one.
    """

    def __init__(self, heard: Callable[[bytes], object], port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard(self.rfile.read(int(self.headers.get("content-length", 0))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Pager:
    """Whom Alertmanager calls."""

    def __init__(self) -> None:
        self.state: dict[str, dict[str, Any]] = {}
        """The latest word on each alert, by its fingerprint."""
        self.said: dict[str, dict[str, str]] = {}
        """The texts of each that ever fired, by name."""
        self._listener = Listener(self._heard)
        self.url = f"http://127.0.0.1:{self._listener.port}/"
        self.close = self._listener.close

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = list(self.state.values())
        return {each["labels"]["alertname"] for each in found if each["status"] == "firing"}

    def _heard(self, body: bytes) -> None:
        for alert in json.loads(body)["alerts"]:
            self.state[alert["fingerprint"]] = alert
            if alert["status"] == "firing":
                self.said[alert["labels"]["alertname"]] = alert["annotations"]


class Fleet:
    """Prometheus, which scrapes and judges, and Alertmanager, which tells.

    Args:
        folder: Where they keep what they keep.
        rules: Files of rules.
        jobs: The port of each job.
        pager: Whom to tell.
    """

    def __init__(self, folder: Path, rules: list[Path], jobs: dict[str, int], pager: Pager) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        alertmanager, self.port = free_port(), free_port()
        self._start(
            str(ALERTMANAGER),
            "alertmanager.yml",
            {
                "route": {
                    "receiver": "pager",
                    "group_by": ["..."],
                    "group_wait": "0s",
                    "group_interval": "1s",
                    "repeat_interval": "1h",
                },
                "receivers": [
                    {
                        "name": "pager",
                        "webhook_configs": [{"url": pager.url, "send_resolved": True}],
                    }
                ],
            },
            "--storage.path=alertmanager",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
        )
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        self._start(
            str(PROMETHEUS),
            "prometheus.yml",
            {
                "global": every,
                "rule_files": [str(each) for each in rules],
                "alerting": {"alertmanagers": [_targets(alertmanager)]},
                "scrape_configs": [
                    {"job_name": job, **_targets(port)} for job, port in jobs.items()
                ],
            },
            "--storage.tsdb.path=prometheus",
            "--rules.alert.resend-delay=1s",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )

    def ask(self, path: str) -> Any:
        """What Prometheus' API answers."""
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def said(self) -> str:
        """What both wrote, for a test that fails."""
        return "\n".join(each.read_text()[-3000:] for each in self._folder.glob("*.log"))

    def stop(self) -> None:
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(20)

    def _start(self, program: str, name: str, config: dict[str, Any], *options: str) -> None:
        path = self._folder / name
        path.write_text(json.dumps(config))  # JSON is YAML, too
        with path.with_suffix(".log").open("wb") as log:
            command = [program, f"--config.file={path}", *options]
            self._started.append(
                subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
            )


def _targets(port: int) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
