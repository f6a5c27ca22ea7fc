"""A real server that is compatible with OpenAI's, in its own way: ``transformers serve``.

It runs a tiny model on the CPU. It streams responses unless it is told not to, reports usage in the
last chunk unasked, and sends no ``[DONE]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from opentelemetry.trace import StatusCode

from llmwatch import semconv, semconv_models, semconv_tasks
from llmwatch.export.store_reader import read_spans
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


@contextmanager
def serving(model: str, home: Path, *more: str, watched: bool = False) -> Iterator[str]:
    """Run a server of that model for the length of a block; its base URL."""
    (port,) = free_ports(1)
    (home / "hub").mkdir(parents=True)
    log = home / "serve.log"
    programs = Path(sys.executable).parent
    command = [
        str(programs / "transformers"), "serve", model, "--host", "127.0.0.1",
        "--port", str(port), "--device", "cpu", "--dtype", "float32", *more,
    ]  # fmt: skip
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    if watched:
        command = [str(programs / "opentelemetry-instrument"), *command]
        environ |= {
            "LLMWATCH_STORE_PATH": str(home / "store"),
            "LLMWATCH_STRICT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
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


@pytest.fixture(scope="module")
def base_url(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server of that model."""
    with serving(model, tmp_path_factory.mktemp("home") / "plain") as url:
        yield url


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


# --- llmwatch inside the server, too -------------------------------------------------------------

BATCHED = ("--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "64")


@pytest.fixture(scope="module", params=[(), BATCHED], ids=["one by one", "batched"])
def watched(
    request: pytest.FixtureRequest, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, bool]]:
    """A server that is watched: its base URL, its store, and whether it batches."""
    home = tmp_path_factory.mktemp("watched") / "home"
    with serving(model, home, *request.param, watched=True) as url:
        yield url, home / "store", bool(request.param)


def found_in(store: Path, trace_id: int) -> list[Any]:
    """The spans of the server in one trace, once they are there."""
    deadline = monotonic() + 30
    while monotonic() < deadline:
        spans = list(read_spans(store)) if store.is_dir() else []
        if mine := [span for span in spans if int(span.trace_id, 16) == trace_id]:
            return mine
        sleep(0.1)
    return []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_one_trace_goes_through_client_and_server(
    watched: tuple[str, Path, bool], model: str, way: Way, stream: bool
) -> None:
    """The server's span is a child of the client's, and both count the same tokens."""
    url, store, batched = watched
    with (
        OpenAI(base_url=url, api_key="sk-none", max_retries=0) as client,
        capture() as seen,
    ):
        answer = way(client, model, stream=stream)
        if stream:
            list(answer)
    (mine,) = seen.spans
    (served,) = found_in(store, mine.context.trace_id)
    attributes = served.attributes
    assert served.name.startswith(f"{NAMES[way]} ")
    assert int(served.parent_id, 16) == mine.context.span_id
    assert attributes[semconv.PROVIDER_NAME] == "huggingface"
    for key in (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS):
        assert attributes[key] == mine.attributes[key]
    assert bool(attributes.get(semconv_tasks.CONTINUOUS_BATCHING)) is batched
    assert 0 < attributes[semconv_models.GENERATION_TIME_TO_FIRST_TOKEN] < 60
