"""A real collector, and what lies behind it: llmwatch → rotel → ddapm-test-agent.

rotel batches for 200 ms, so what a program sent arrives a moment after the program has ended.
Tests share one collector: each has a ``service.name`` of its own, and asks for what came from it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from llmwatch.semconv import STREAM_CHUNKS, STREAM_READY_CHUNKS

BATCH = 0.2
"""Seconds for which rotel waits for more."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Process:
    """A server in a process of its own.

    Args:
        command: What to run.
        ports: Where it listens when it is ready.
        log: File that gets its output.
    """

    def __init__(self, command: list[str], ports: list[int], log: Path) -> None:
        with log.open("a") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = monotonic() + 60
        for port in ports:
            while not _listens(port):
                assert self._process.poll() is None, log.read_text()
                assert monotonic() < deadline, log.read_text()
                sleep(0.02)

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Rotel:
    """The collector: takes OTLP over grpc and http, sends it on over http.

    Args:
        venv: Where it is installed.
        folder: For its log and pid files.
        behind: The port that it sends to.
    """

    def __init__(self, venv: Path, folder: Path, behind: int) -> None:
        self.grpc, self.http = free_ports(2)
        (program,) = venv.glob("lib/python*/site-packages/rotel/rotel-agent")
        self._log = folder / f"rotel-{self.http}.log"
        self._command = [
            str(program), "start", "--pid-file", str(folder / f"rotel-{self.http}.pid"),
            "--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc}",
            "--otlp-http-endpoint", f"127.0.0.1:{self.http}",
            "--exporter", "otlp", "--otlp-exporter-protocol", "http",
            "--otlp-exporter-endpoint", f"http://127.0.0.1:{behind}",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Listen, on the same ports each time."""
        self._process = Process(self._command, [self.grpc, self.http], self._log)

    def stop(self) -> None:
        """Listen no more; what it holds is sent on first."""
        self._process.stop()

    def endpoint(self, protocol: str) -> str:
        """What a program is told."""
        return f"http://127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}"


@dataclass(frozen=True)
class Arrived:
    """What came from one service; every item carries its ``resource`` attributes."""

    spans: list[dict[str, Any]]
    events: list[dict[str, Any]]
    points: list[dict[str, Any]]
    """Data points, each with its metric's ``name``, ``unit``, ``kind`` and ``temporality``."""

    def of(self, metric: str) -> list[dict[str, Any]]:
        """The points of one metric, in the order of their time."""
        found = [point for point in self.points if point["name"] == metric]
        return sorted(found, key=lambda point: int(point["time_unix_nano"]))

    def counts(self, metric: str) -> dict[str, int]:
        """How often a cumulative histogram was recorded to, by service instance."""
        last: dict[tuple[str, str], int] = {}
        for point in self.of(metric):
            instance = point["resource"]["service.instance.id"]
            last[instance, str(sorted(point["attributes"].items()))] = int(point["count"])
        counts: dict[str, int] = {}
        for (instance, _), count in last.items():
            counts[instance] = counts.get(instance, 0) + count
        return counts


def gaps(spans: list[dict[str, Any]]) -> range:
    """How many gaps between chunks there are to count in the streams among *spans*.

    One less than chunks; but a chunk that was there already when it was asked for, as happens where
    the machine is busy, says nothing of the gaps before it and after it.
    """
    streams = [span["attributes"] for span in spans if STREAM_CHUNKS in span["attributes"]]
    most = sum(stream[STREAM_CHUNKS] - 1 for stream in streams)
    late = sum(stream.get(STREAM_READY_CHUNKS, 0) for stream in streams)
    return range(most - 2 * late, most + 1)


class Collector:
    """rotel and the test agent behind it, running.

    Args:
        venv: Where both are installed.
        folder: For logs and the like.
    """

    def __init__(self, venv: Path, folder: Path) -> None:
        self._venv, self._folder = venv, folder
        self.own, self.http, self.grpc = free_ports(3)
        command = [
            str(venv / "bin/ddapm-test-agent"), "--host", "127.0.0.1", "-p", str(self.own),
            "--otlp-http-port", str(self.http), "--otlp-grpc-port", str(self.grpc),
        ]  # fmt: skip
        self._agent = Process(command, [self.http, self.grpc], folder / "agent.log")
        self.rotel = self.another()

    def another(self) -> Rotel:
        """One more rotel before the same test agent, for a test that stops it."""
        return Rotel(self._venv, self._folder, self.http)

    def stop(self) -> None:
        """End both."""
        self.rotel.stop()
        self._agent.stop()

    def direct(self, protocol: str) -> str:
        """Endpoint of the test agent itself, which keeps the headers of what it is sent."""
        return f"http://127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}"

    def requests(self, token: str) -> list[dict[str, Any]]:
        """What the test agent was sent with this session token, with url and headers."""
        found = self._get("requests", token)
        return [each for each in found if token in each["headers"].values()]

    def arrived(
        self, service: str, condition: Callable[[Arrived], object], token: str = ""
    ) -> Arrived:
        """What came from *service*, once *condition* holds and nothing more is on its way.

        Args:
            service: Its ``service.name``.
            condition: Waited for, for 20 s at the most.
            token: Session token that it was sent with, if any.
        """
        deadline = monotonic() + 20
        while not condition(now := self._arrived(service, token)):
            assert monotonic() < deadline, f"not in time; arrived: {now}"
            sleep(0.05)
        sleep(2 * BATCH)  # whatever is sent twice would have come twice by now
        return self._arrived(service, token)

    def _arrived(self, service: str, token: str) -> Arrived:
        def of(signal: str, *keys: str) -> list[dict[str, Any]]:
            items = _items(self._get(signal, token), *keys)
            return [each for each in items if each["resource"].get("service.name") == service]

        return Arrived(
            of("traces", "resource_spans", "scope_spans", "spans"),
            of("logs", "resource_logs", "scope_logs", "log_records"),
            list(_points(of("metrics", "resource_metrics", "scope_metrics", "metrics"))),
        )

    def _get(self, what: str, token: str) -> Any:
        url = f"http://127.0.0.1:{self.http}/test/session/{what}"
        if token:
            url += f"?test_session_token={token}"
        try:
            with urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except HTTPError as error:
            if token and error.code == 400:  # it has not met this token yet
                return []
            raise


def _items(requests: Any, resources: str, scopes: str, items: str) -> Iterator[dict[str, Any]]:
    for request in requests:
        for resource in request.get(resources, ()):
            for scope in resource.get(scopes, ()):
                for item in scope.get(items, ()):
                    yield {
                        **item,
                        "attributes": _pairs(item.get("attributes", ())),
                        "resource": _pairs(resource["resource"].get("attributes", ())),
                        "scope": scope["scope"]["name"],
                        "schema_url": scope.get("schema_url"),
                    }


def _points(metrics: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for metric in metrics:
        (kind,) = metric.keys() & {"histogram", "sum", "gauge"}
        data = metric[kind]
        for point in data["data_points"]:
            yield {
                **point,
                "name": metric["name"],
                "unit": metric["unit"],
                "kind": kind,
                "monotonic": data.get("is_monotonic", False),
                "temporality": data.get("aggregation_temporality", ""),
                "attributes": _pairs(point.get("attributes", ())),
                "resource": metric["resource"],
            }


def _pairs(pairs: Any) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    ((kind, found),) = value.items()
    match kind:
        case "int_value":
            return int(found)
        case "array_value":
            return [_value(each) for each in found.get("values", ())]
        case "kvlist_value":
            return _pairs(found.get("values", ()))
        case _:
            return found


def environment(**more: str) -> dict[str, str]:
    """That of this process without what tells exporters anything, and *more*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "LLMWATCH_", "PYTEST_"))
    }
    return kept | more
