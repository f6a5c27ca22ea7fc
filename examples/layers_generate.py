"""Time the layers of a language model while it serves: the prompt and each new token apart.

    python examples/layers_generate.py

Needs transformers. Every forward is sampled here, so that few answers are enough; in production
leave `every` out, and at most one forward a second of each phase is.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import _tiny

import llmwatch
from llmwatch.export.store_reader import read_spans


def main() -> None:
    """Answer on two threads, then say where the time went."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="layers-example", store_path=store, layer_spans=3)
    model = _tiny.model()

    def answer(length: int) -> int:
        prompt = _tiny.prompt(length)
        return len(model.generate(**prompt, max_new_tokens=8, do_sample=False)[0])

    with llmwatch.watch_layers(model, every=1) as watcher:
        watcher.sample_now()  # a forward whose work is counted is not timed: not the first prompt
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(answer, [20, 30, 40, 50]))
    for row in watcher.totals():
        name, each = row.layer.name or "(model)", row.total_time / row.calls
        print(f"{row.phase:9}{name:22}{row.share:6.1%} of the time {each * 1e3:8.3f} ms a call")
    llmwatch.shutdown()

    spans = list(read_spans(store))
    names = {span.span_id: span.name for span in spans}
    layers = [span for span in spans if "llmwatch.layer.name" in span.attributes]
    for span in layers[:3]:
        print(f"{span.name} in {names[span.parent_id]}")


if __name__ == "__main__":
    main()
