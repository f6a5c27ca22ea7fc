"""What once went wrong, or nearly: each law here was broken by somebody who tried."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any

import openai
import pytest
from openai import OpenAI
from opentelemetry.trace import StatusCode

import llmwatch
from llmwatch import semconv
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from llmwatch.measure.record import Usage
from llmwatch.sources.openai.response import read_usage
from llmwatch.testing import Captured, capture
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_a_pause_of_the_consumer_does_not_change_what_is_said_of_the_server(
    server: Server, client: OpenAI, seen: Captured
) -> None:
    """What piled up in one long pause makes no gap, no TPOT, no time to first output."""
    usage = {"stream_options": {"include_usage": True}}
    server.enqueue(Script(chunks=20, delays=(0.005,)))
    stream = client.chat.completions.create(**ASK, stream=True, **usage)
    sleep(0.6)
    list(stream)
    attributes = seen.spans[0].attributes
    assert attributes[semconv.STREAM_READY_CHUNKS] >= 2  # all, unless the machine is busy
    for absent in (semconv.TIME_PER_OUTPUT_TOKEN, semconv.TIME_TO_FIRST_OUTPUT,
                   semconv.OUTPUT_TOKEN_RATE, semconv.RESPONSE_TIME_TO_FIRST_CHUNK):  # fmt: skip
        assert absent not in attributes


def test_several_answers_in_one_stream_have_no_time_per_token(seen: Captured) -> None:
    """Chunks of two choices alternate: one span over all tokens would be a wrong mean."""
    with transport.client() as client:
        usage = {"stream_options": {"include_usage": True}}
        list(client.chat.completions.create(**ASK, stream=True, n=2, **usage))
    assert semconv.TIME_PER_OUTPUT_TOKEN not in seen.spans[0].attributes


def test_a_stream_in_a_cycle_is_ended_after_the_collection_not_inside_it(seen: Captured) -> None:
    """The collector may run while a lock of the SDK's is held: it only notes what it found."""
    with transport.client() as client:
        cycle: dict[str, Any] = {"stream": client.chat.completions.create(**ASK, stream=True)}
        next(cycle["stream"])
        cycle["self"] = cycle
        del cycle
        gc.collect()
        assert seen.spans == []
        llmwatch.flush()
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "abandoned"


def test_what_is_in_flight_when_watching_ends_is_told() -> None:
    """A stream that somebody still holds has its span, and is no longer counted as active."""
    with transport.client() as client:
        with capture() as seen:
            stream = client.chat.completions.create(**ASK, stream=True)
            next(stream)
        (span,) = seen.spans
        assert span.attributes[semconv.STREAM_ENDING] == "abandoned"
        assert len(list(stream)) == 7


def test_what_is_in_flight_when_the_process_ends_is_told(tmp_path: Path) -> None:
    """A script that ends in the middle of a stream leaves its span in the store."""
    code = """
import llmwatch
from tests.sources.openai import transport
llmwatch.instrument()
client = transport.client()
stream = client.chat.completions.create(model="m", messages=[], stream=True)
next(stream)
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60,
        env={"LLMWATCH_STORE_PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    from llmwatch.export.store_reader import read_spans

    (span,) = read_spans(tmp_path)
    assert span.attributes[semconv.STREAM_ENDING] == "abandoned"


@pytest.mark.parametrize("raw", ["with_raw_response", "with_streaming_response"])
def test_vectors_are_never_walked(
    seen: Captured, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw embeddings that the user does not parse are not parsed for us either."""
    from openai import _legacy_response, _response

    def parse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("somebody parsed the vectors")

    monkeypatch.setattr(_legacy_response.LegacyAPIResponse, "_parse", parse)
    monkeypatch.setattr(_response.BaseAPIResponse, "_parse", parse)
    with transport.client() as client:
        opened = getattr(client.embeddings, raw).create(model="m", input=["a"])
        if raw == "with_streaming_response":
            with opened as response:
                response.read()
    (span,) = seen.spans
    assert span.attributes[semconv.USAGE_INPUT_TOKENS] == 4
    assert span.attributes[semconv.RESPONSE_MODEL] == "m"


@pytest.mark.parametrize("how", ["lines", "raw"])
def test_a_broken_raw_stream_is_an_error(seen: Captured, how: str) -> None:
    """Whoever reads the bytes alone meets the error, and so does the span; no chunk is claimed."""
    ask = {**ASK, "stream": True, "extra_headers": {"x-fail-at": "3"}}

    def read_lines(client: OpenAI) -> None:
        with client.chat.completions.with_streaming_response.create(**ask) as response:
            list(response.iter_lines())

    def read_raw(client: OpenAI) -> None:
        list(client.chat.completions.with_raw_response.create(**ask).http_response.iter_lines())

    with transport.client() as client, pytest.raises(Exception, match="reset"):
        (read_lines if how == "lines" else read_raw)(client)
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.STREAM_ENDING] == "failed"
    assert semconv.STREAM_CHUNKS not in span.attributes


def test_a_raw_stream_read_to_its_end_is_exhausted(seen: Captured) -> None:
    """Also where nobody parses it."""
    with transport.client() as client:
        opened = client.chat.completions.with_streaming_response.create(**ASK, stream=True)
        with opened as response:
            list(response.iter_bytes())
    (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "exhausted"


@pytest.mark.parametrize("odd", ["1", 1.5, -1, True, 2**70, [], {}])
def test_counts_that_are_no_counts_are_unknown(odd: Any) -> None:
    """Compatible servers send all sorts of things; none of it may cost the span."""
    assert read_usage({"prompt_tokens": odd, "completion_tokens": odd}) is None
    assert read_usage({"prompt_tokens": 3, "completion_tokens": odd}) == Usage(3, None)


def test_an_error_code_that_looks_like_none_is_not_recorded(seen: Captured) -> None:
    """Some servers quote the key they were sent; it must not reach a signal."""

    def refuse(request: Any) -> Any:
        key = request.headers["authorization"].partition(" ")[2]
        error = {"error": {"message": f"Invalid token: {key}", "code": key, "type": "t"}}
        return transport.httpx.Response(401, json=error)

    http = transport.httpx.Client(transport=transport.httpx.MockTransport(refuse))
    settings = transport.settings({"api_key": "mykey-SECRET1234"})
    with OpenAI(**settings, http_client=http) as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**ASK)
    assert "SECRET" not in seen.spans[0].to_json()


def test_a_key_is_not_quoted_in_an_event(lenient: None) -> None:
    """Captured messages of errors have the very key of the request taken out."""

    def refuse(request: Any) -> Any:
        key = request.headers["authorization"].partition(" ")[2]
        return transport.httpx.Response(401, json={"error": {"message": f"No such token: {key}"}})

    http = transport.httpx.Client(transport=transport.httpx.MockTransport(refuse))
    settings = transport.settings({"api_key": "mykey-SECRET1234"})
    with (
        capture(capture_content=True) as seen,
        OpenAI(**settings, http_client=http) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(**ASK)
    said = [str(dict(event.attributes or {})) for event in seen.events]
    assert not any("SECRET" in text for text in said)
    assert any("(secret)" in text for text in said)


def test_requests_inside_a_request_do_not_mix(seen: Captured) -> None:
    """A request that a hook of the HTTP client makes says nothing of the one it interrupts."""
    inside: list[Any] = []

    def hook(response: Any) -> None:
        if not inside:
            inside.append(None)
            client.models.list()

    def answer(request: Any) -> Any:
        response = transport.handler(request)
        if request.url.path.endswith("/models"):
            response.headers["x-request-id"] = "req_models"
        return response

    http = transport.httpx.Client(
        transport=transport.httpx.MockTransport(answer), event_hooks={"response": [hook]}
    )
    with OpenAI(**transport.settings({}), http_client=http) as client:
        client.chat.completions.create(**ASK)
    (span,) = seen.spans
    assert span.attributes[semconv.REQUEST_ID] == "req_1"


def test_the_response_of_a_finished_stream_can_be_pickled(seen: Captured) -> None:
    """Nothing of ours stays on it."""
    with transport.client() as client:
        stream = client.chat.completions.create(**ASK, stream=True)
        list(stream)
        assert "close" not in vars(stream.response)
        pickle.dumps(stream.response)


def test_what_patches_the_base_class_later_is_called(
    seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that mocks the client's ``request`` after `instrument` still gets its answer."""
    from openai import _base_client

    monkeypatch.setattr(_base_client.SyncAPIClient, "request", lambda *args, **kwargs: "mine")
    with transport.client() as client:
        assert client.chat.completions.create(**ASK) == "mine"
    assert len(seen.spans) == 1


def test_a_model_name_that_cannot_be_encoded_costs_no_other_span(seen: Captured) -> None:
    """A lone surrogate in one span would fail the export of its whole batch."""
    with transport.client() as client, pytest.raises(UnicodeEncodeError):
        client.chat.completions.create(**{**ASK, "model": "bad\ud800"})
    (span,) = seen.spans
    span.name.encode()
    assert str((span.attributes or {})[semconv.REQUEST_MODEL]).encode()


def test_a_client_that_cannot_be_hashed_is_watched(seen: Captured) -> None:
    """Some applications compare their clients."""

    class Mine(OpenAI):
        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = None  # type: ignore[assignment]

    http = transport.client()._client
    Mine(**transport.settings({}), http_client=http).chat.completions.create(**ASK)
    assert len(seen.spans) == 1


def test_a_path_without_its_slash_is_the_same_path(seen: Captured) -> None:
    """The client joins both to its base URL."""
    with transport.client() as client:
        client.post("chat/completions", body=ASK, cast_to=object)
    assert len(seen.spans) == 1


def test_instrumenting_while_the_client_is_being_imported_watches_it() -> None:
    """A thread imports openai while another one instruments: the client is watched all the same."""
    code = """
import sys, threading
threading.Thread(target=__import__, args=("openai",)).start()
while "openai._client" not in sys.modules:
    pass
import llmwatch
from opentelemetry.trace import NoOpTracerProvider
llmwatch.instrument(tracer_provider=NoOpTracerProvider(), sources=["openai"])
import openai
print("request" in vars(openai.OpenAI))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "OTEL_METRICS_EXPORTER": "none",
             "OTEL_LOGS_EXPORTER": "none"}, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "True"
