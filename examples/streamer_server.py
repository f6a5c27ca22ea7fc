"""A web server that streams a local model's answer, token by token, in the trace of its request.

    python examples/streamer_server.py

The model runs on a thread of its own, which inherits no context. llmwatch takes it from where the
streamer was built: the generation is a child of the request's span.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from threading import Thread
from time import sleep
from urllib.request import urlopen

import uvicorn
from _words import model_and_tokenizer
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from transformers import TextIteratorStreamer

import llmwatch
from llmwatch.export.store_reader import read_spans

MODEL, TOKENIZER = model_and_tokenizer()


def answer(request: Request) -> StreamingResponse:
    """Start the model on a thread, and hand out what it says."""
    prompt = TOKENIZER(request.query_params["prompt"], return_tensors="pt")
    with trace.get_tracer("server").start_as_current_span("GET /answer"):
        streamer = TextIteratorStreamer(TOKENIZER, skip_prompt=True)
    given = {**prompt, "streamer": streamer, "max_new_tokens": 16, "do_sample": False}
    Thread(target=MODEL.generate, kwargs=given).start()
    return StreamingResponse(_words(streamer), media_type="text/plain")


def _words(streamer: TextIteratorStreamer) -> Iterator[str]:
    yield from streamer


def main() -> None:
    """Serve, ask once, and show the trace."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="server-example", store_path=store, set_global=True)
    app = Starlette(routes=[Route("/answer", answer)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with urlopen(f"http://127.0.0.1:{port}/answer?prompt=the+ferry+is+late") as response:
        print(f"the model says: {response.read().decode().strip() or '(nothing)'}")
    server.should_exit = True
    thread.join()
    llmwatch.shutdown()

    spans = sorted(read_spans(store), key=lambda span: span.start)
    names = {span.span_id: span.name for span in spans}
    for span in spans:
        inside = f" in {names[span.parent_id]}" if span.parent_id else ""
        tokens = span.attributes.get("gen_ai.usage.output_tokens")
        print(f"{span.name}{inside}" + (f": {tokens} tokens" if tokens else ""))


if __name__ == "__main__":
    main()
