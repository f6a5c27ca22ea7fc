"""Real Phoenix and MLflow servers, each in an environment of its own, and what they say they got.

``LLMWATCH_PHOENIX_VENV`` and ``LLMWATCH_MLFLOW_VENV`` name the environments; ``nox -s integrations``
makes them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol
from urllib.request import Request, urlopen

from tests.collector.collector import free_ports

START = 240.0
"""Seconds that a server may take to start: it makes its database first."""


@dataclass(frozen=True)
class Stored:
    """One operation as a backend gives it back, in one form for all of them."""

    name: str
    kind: str
    model: str | None
    tokens: tuple[int | None, int | None]
    """Input and output, as the backend counts them."""
    cached: int | None
    reasoning: int | None
    cost: float | None
    reckoned: float | None
    """What the backend shows as cost: by prices of its own, or as sent."""
    messages: tuple[tuple[str, str], ...]
    """Role and text (or JSON) of everything said, the answer last."""
    tools: tuple[str, ...]
    """Names of the tools that were offered."""
    failed: bool
    session: str | None
    user: str | None
    started_ns: int
    attributes: Mapping[str, Any]


class Backend(Protocol):
    """A running server."""

    variables: dict[str, str]
    """What tells the preset where it is."""

    def stored(self) -> list[Stored]:
        """Every operation that it holds, by start."""

    def stop(self) -> None:
        """End the server."""


class _Server:
    def __init__(self, command: list[str], url: str, folder: Path, **environ: str) -> None:
        self._url = url
        log = folder / "log"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = monotonic() + START
        while not self._answers():
            assert self._process.poll() is None, log.read_text()[-4000:]
            assert monotonic() < deadline, log.read_text()[-4000:]
            sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(self._url, timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, body: object = None) -> Any:
        """The JSON that it answers a GET, or a POST of *body*, with."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"content-type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Phoenix(_Server):
    """Arize Phoenix. Its gRPC port knows no host to listen on; the other is on loopback."""

    def __init__(self, venv: Path, folder: Path) -> None:
        port, grpc = free_ports(2)
        super().__init__(
            [str(venv / "bin" / "phoenix"), "serve"],
            f"http://127.0.0.1:{port}",
            folder,
            PHOENIX_HOST="127.0.0.1",
            PHOENIX_PORT=str(port),
            PHOENIX_GRPC_PORT=str(grpc),
            PHOENIX_WORKING_DIR=str(folder),
            PHOENIX_TELEMETRY_ENABLED="false",
        )
        self.variables = {
            "PHOENIX_COLLECTOR_ENDPOINT": self._url,
            "PHOENIX_PROJECT_NAME": "llmwatch",
        }

    def stored(self) -> list[Stored]:
        projects = [each["name"] for each in self.ask("/v1/projects")["data"]]
        if "llmwatch" not in projects:
            return []
        spans = self.ask("/v1/projects/llmwatch/spans?limit=100")["data"]
        costs = dict(self._costs())
        found = [self._read(span, costs.get(span["context"]["span_id"])) for span in spans]
        return sorted(found, key=lambda each: each.started_ns)

    def _costs(self) -> Iterator[tuple[str, float | None]]:
        query = """{ projects { edges { node { name spans(first: 100) { edges { node {
            spanId costSummary { total { cost } } } } } } } } }"""
        for project in self.ask("/graphql", {"query": query})["data"]["projects"]["edges"]:
            for edge in project["node"]["spans"]["edges"]:
                summary = edge["node"]["costSummary"]
                yield edge["node"]["spanId"], summary and summary["total"]["cost"]

    @staticmethod
    def _read(span: Mapping[str, Any], reckoned: float | None) -> Stored:
        from datetime import datetime

        said = span["attributes"]
        counts = said.get("llm.token_count.prompt"), said.get("llm.token_count.completion")
        tools = (said.get(f"llm.tools.{number}.tool.json_schema") for number in range(9))
        return Stored(
            name=span["name"],
            kind=span["span_kind"],
            model=said.get("llm.model_name") or said.get("embedding.model_name"),
            tokens=counts,
            cached=said.get("llm.token_count.prompt_details.cache_read"),
            reasoning=said.get("llm.token_count.completion_details.reasoning"),
            cost=said.get("llm.cost.total"),
            reckoned=reckoned,
            messages=(
                *_openinference(said, "llm.input_messages"),
                *_openinference(said, "llm.output_messages"),
            ),
            tools=tuple(json.loads(each)["function"]["name"] for each in tools if each),
            failed=span["status_code"] == "ERROR",
            session=said.get("session.id"),
            user=said.get("user.id"),
            started_ns=int(datetime.fromisoformat(span["start_time"]).timestamp() * 1e9),
            attributes=said,
        )


def _openinference(said: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for number in range(20):
        message = f"{prefix}.{number}.message"
        if (role := said.get(f"{message}.role")) is None:
            return
        if (name := said.get(f"{message}.tool_calls.0.tool_call.function.name")) is not None:
            key = f"{message}.tool_calls.0.tool_call.function.arguments"
            yield role, f"{name} {json.loads(said[key])}"
        elif (content := said.get(f"{message}.content")) is not None:
            yield role, content
        else:
            parts = (
                said.get(f"{message}.contents.{part}.message_content.text") for part in range(9)
            )
            yield role, "\n".join(each for each in parts if each is not None)


class MLflow(_Server):
    """MLflow's tracking server, on a database of its own."""

    def __init__(self, venv: Path, folder: Path) -> None:
        (port,) = free_ports(1)
        super().__init__(
            [
                str(venv / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
                "--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
            ],
            f"http://127.0.0.1:{port}",
            folder,
            PATH=f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        self.variables = {"MLFLOW_TRACKING_URI": self._url}

    def stored(self) -> list[Stored]:
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        body = {"locations": [where], "max_results": 100}
        found = []
        for info in self.ask("/api/3.0/mlflow/traces/search", body).get("traces", ()):
            trace = self.ask(f"/api/3.0/mlflow/traces/get?trace_id={info['trace_id']}")["trace"]
            found += [self._read(span, info) for span in trace["spans"]]
        return sorted(found, key=lambda each: each.started_ns)

    @staticmethod
    def _read(span: Mapping[str, Any], info: Mapping[str, Any]) -> Stored:
        said = {each["key"]: _value(each["value"]) for each in span["attributes"]}
        usage, metadata = said.get("mlflow.chat.tokenUsage", {}), info["trace_metadata"]
        messages = [*said.get("mlflow.spanInputs", ()), *said.get("mlflow.spanOutputs", ())]
        summed = json.loads(metadata.get("mlflow.trace.cost", "{}"))
        return Stored(
            name=span["name"],
            kind=said["mlflow.spanType"],
            model=said.get("mlflow.llm.model"),
            tokens=(usage.get("input_tokens"), usage.get("output_tokens")),
            cached=usage.get("cache_read_input_tokens"),
            reasoning=said.get("gen_ai.usage.reasoning.output_tokens"),
            cost=said.get("mlflow.llm.cost", {}).get("total_cost"),
            reckoned=summed.get("total_cost"),
            messages=tuple((each["role"], _said(each["parts"])) for each in messages),
            tools=tuple(each["name"] for each in said.get("mlflow.chat.tools", ())),
            failed=info["state"] == "ERROR",
            session=metadata.get("mlflow.trace.session"),
            user=metadata.get("mlflow.trace.user"),
            started_ns=int(span["start_time_unix_nano"]),
            attributes=said,
        )


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, found),) = value.items()
    if kind == "kvlist_value":
        return {each["key"]: _value(each["value"]) for each in found["values"]}
    if kind == "array_value":
        return [_value(each) for each in found.get("values", ())]
    return found


def _said(parts: list[Mapping[str, Any]]) -> str:
    texts = []
    for part in parts:
        if part["type"] == "tool_call":
            texts.append(f"{part['name']} {part['arguments']}")
        else:
            texts.append(part["response"] if "response" in part else part["content"])
    return "\n".join(texts)


SERVERS: dict[str, type[Phoenix] | type[MLflow]] = {"phoenix": Phoenix, "mlflow": MLflow}


ENVIRONMENTS = {
    name: Path(found)
    for name in SERVERS
    if (found := os.environ.get(f"LLMWATCH_{name.upper()}_VENV", ""))
}
"""Where servers are installed; read before the tests begin with none of these variables."""
