"""Send the requests that are worth it, and count them all.

    python examples/volume.py

Whether a request failed, was slow or got a bad mark is known when it is over: its spans wait for
that, and then go or are left out. Metrics count every call either way.
"""

from __future__ import annotations

import tempfile
from collections import Counter

from _server import Script, a_model
from openai import InternalServerError, OpenAI
from opentelemetry import trace

import llmwatch
from llmwatch.export.store_reader import read_metrics, read_spans

REQUESTS = 60
SCRIPTS = {
    7: Script(status=500),
    21: Script(delay=0.6),
    33: Script(text="I cannot help with that."),
}
"""What the model does with some of the requests; all others it answers at once."""


def answer(client: OpenAI, tracer: trace.Tracer, number: int) -> None:
    """One request of the application, with a call in it."""
    with tracer.start_as_current_span("GET /answer") as span:
        span.set_attribute("number", number)
        try:
            done = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "What now?"}]
            )
        except InternalServerError:
            return  # the call's own span says that it failed
        if "cannot" in (done.choices[0].message.content or ""):
            llmwatch.flag()


def main() -> None:
    """Answer all requests, and show what was sent and what was counted."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(
        service_name="volume-example",
        store_path=store,
        set_global=True,  # so that the application's spans are in the same traces
        keep="errors,flagged,slow>500ms",
    )
    tracer = trace.get_tracer("shop")
    answers = [SCRIPTS.get(number, Script()) for number in range(REQUESTS)]
    with a_model(*answers), OpenAI(max_retries=0) as client:
        for number in range(REQUESTS):
            answer(client, tracer, number)
    llmwatch.shutdown()

    for span in read_spans(store):
        if span.parent_id is None:
            print(
                f"request {span.attributes['number']} was kept: {span.attributes['llmwatch.kept']}"
            )
    latest = {(point.metric, str(point.attributes)): point for point in read_metrics(store)}
    counted: Counter[str] = Counter()
    for point in latest.values():
        counted[point.metric] += int(point.value or point.count)
    print(f"left out: {counted['llmwatch.spans.left_out']} spans")
    print(f"counted:  {counted['gen_ai.client.operation.duration']} calls")


if __name__ == "__main__":
    main()
