"""A real server that is compatible with OpenAI's, in its own way: ``transformers serve``.

It runs a tiny model on the CPU. It streams responses unless it is told not to, reports usage in the
last chunk unasked, and sends no ``[DONE]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from opentelemetry.trace import StatusCode

from llmwatch import semconv
from llmwatch.testing import Captured, capture
from tests.collector.collector import free_ports

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed here", allow_module_level=True)

pytestmark = pytest.mark.timeout(300)

TOKENS = 12
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "the question"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    program = Path(__file__).with_name("tiny_model.py")
    subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True)
    return str(folder)


@pytest.fixture(scope="module")
def base_url(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server of that model."""
    (port,) = free_ports(1)
    home = tmp_path_factory.mktemp("home")
    (home / "hub").mkdir()
    log = home / "serve.log"
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", model, "--host", "127.0.0.1",
        "--port", str(port), "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ) as process,
    ):
        deadline = monotonic() + 240
        while not _healthy(port):
            assert process.poll() is None, log.read_text()
            assert monotonic() < deadline, log.read_text()
            sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
        process.terminate()


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture
def real(base_url: str) -> Iterator[OpenAI]:
    """A client of that server."""
    with OpenAI(base_url=base_url, api_key="sk-none", max_retries=0) as client:
        yield client


@pytest.fixture
def seen() -> Iterator[Captured]:
    """What llmwatch emits."""
    with capture(capture_content=True) as captured:
        yield captured


def chat(client: Any, model: str, **more: Any) -> Any:
    return client.chat.completions.create(model=model, **ASK, max_tokens=TOKENS, **more)


def completions(client: Any, model: str, **more: Any) -> Any:
    return client.completions.create(model=model, prompt="the", max_tokens=TOKENS, **more)


def responses(client: Any, model: str, **more: Any) -> Any:
    more.setdefault("stream", False)
    return client.responses.create(
        model=model, input="the question", max_output_tokens=TOKENS, **more
    )


WAYS = [chat, completions, responses]
NAMES = {chat: "chat", completions: "text_completion", responses: "chat"}
Way = Callable[..., Any]


def usage_of(answer: Any) -> tuple[int, int] | None:
    """Input and output tokens that an answer, or a chunk of one, reports."""
    usage = getattr(answer, "usage", None) or getattr(
        getattr(answer, "response", None), "usage", None
    )
    if usage is None:
        return None
    if hasattr(usage, "input_tokens"):
        return usage.input_tokens, usage.output_tokens
    return usage.prompt_tokens, usage.completion_tokens


def outputs_of(chunks: list[Any]) -> int:
    """How many of them bring output: all, but for responses, whose other events frame it."""
    return sum(getattr(chunk, "type", ".delta").endswith(".delta") for chunk in chunks)


def check(seen: Captured, way: Way, model: str, usage: tuple[int, int] | None) -> dict[str, Any]:
    """One span, ended well, that says what the server said; its attributes."""
    (span,) = seen.spans
    attributes = dict(span.attributes)
    assert span.name == f"{NAMES[way]} {model}"
    assert span.status.status_code is StatusCode.UNSET
    assert semconv.ERROR_TYPE not in attributes
    assert usage is not None
    assert usage[1] == TOKENS
    assert attributes[semconv.USAGE_INPUT_TOKENS] == usage[0]
    assert attributes[semconv.USAGE_OUTPUT_TOKENS] == usage[1]
    assert semconv.USAGE_ESTIMATED not in attributes
    assert attributes[semconv.RESPONSE_MODEL] == f"{model}@main"
    assert attributes[semconv.REQUEST_ID]
    assert semconv.OUTPUT_MESSAGES in attributes
    (point,) = seen.metrics()["gen_ai.client.operation.duration"]
    assert point.count == 1
    return attributes


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_call_tells_what_the_server_said(
    real: OpenAI, model: str, seen: Captured, way: Way
) -> None:
    answer = way(real, model)
    attributes = check(seen, way, model, usage_of(answer))
    assert semconv.RESPONSE_TIME_TO_FIRST_CHUNK not in attributes


@pytest.mark.parametrize("way", WAYS)
def test_a_streamed_call_tells_when_its_chunks_came(
    real: OpenAI, model: str, seen: Captured, way: Way
) -> None:
    began = monotonic()
    chunks = list(way(real, model, stream=True))
    took = monotonic() - began
    attributes = check(seen, way, model, usage_of(chunks[-1]))
    (span,) = seen.spans
    duration = (span.end_time - span.start_time) / 1e9
    assert attributes[semconv.STREAM_CHUNKS] == outputs_of(chunks) > 1
    assert attributes[semconv.STREAM_ENDING] == "exhausted"
    assert 0 < attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] < duration < took
    assert attributes[semconv.OUTPUT_TOKEN_RATE] > 0


@pytest.mark.parametrize("way", WAYS)
async def test_an_asynchronous_stream_is_no_different(
    base_url: str, model: str, seen: Captured, way: Way
) -> None:
    async with AsyncOpenAI(base_url=base_url, api_key="sk-none", max_retries=0) as client:
        chunks = [chunk async for chunk in await way(client, model, stream=True)]
    attributes = check(seen, way, model, usage_of(chunks[-1]))
    assert attributes[semconv.STREAM_CHUNKS] == outputs_of(chunks) > 1


def test_usage_that_comes_with_the_last_chunk_is_not_hidden(real: OpenAI, model: str) -> None:
    """Asked for by llmwatch and reported beside a choice, it stays the user's chunk."""
    plain = [
        chunk.model_dump(exclude={"id", "created"}) for chunk in chat(real, model, stream=True)
    ]
    with capture(stream_usage=True) as seen:
        chunks = list(chat(real, model, stream=True))
    attributes = dict(seen.spans[0].attributes)
    assert chunks[-1].model_dump(exclude={"id", "created"}) == plain[-1]
    assert usage_of(chunks[-1]) == (
        attributes[semconv.USAGE_INPUT_TOKENS],
        attributes[semconv.USAGE_OUTPUT_TOKENS],
    )


def test_a_stream_that_is_left_ends_its_span(real: OpenAI, model: str, seen: Captured) -> None:
    with chat(real, model, stream=True) as stream:
        next(stream)
    (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "closed"
    assert span.status.status_code is StatusCode.UNSET


def test_an_answer_of_another_kind_passes_through(real: OpenAI, model: str, seen: Captured) -> None:
    """Not told whether to stream, this server does, and the client hands out its text."""
    text: Any = real.responses.create(model=model, input="the", max_output_tokens=TOKENS)
    assert isinstance(text, str)
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.UNSET


def test_a_refusal_is_an_error_of_the_call(real: OpenAI, seen: Captured) -> None:
    with pytest.raises(BadRequestError):
        chat(real, "another model")
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.HTTP_STATUS_CODE] == 400
