"""``encode``, however it is called: one operation, true counts, the same result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from llmwatch import _guard, semconv
from llmwatch import semconv_tasks as names
from llmwatch.sources.sentence_transformers import calls, reading
from llmwatch.testing import capture
from tests.sources.contract import SourceContract
from tests.sources.sentence_transformers.conftest import folder

TEXTS = [
    "The ferry is late.",
    "Lamps along the quay.",
    "Rain on the water, all evening long, and nobody who waits for the last boat.",
    "Go home.",
    "Nobody comes.",
]
DIMENSION = 384

Encode = Callable[[Any], Any]

# How encode is called, how many inputs it has, and in how many batches they are processed.
CALLS: dict[str, tuple[Encode, int, int]] = {
    "a text": (lambda model: model.encode(TEXTS[0]), 1, 1),
    "texts": (lambda model: model.encode(TEXTS), 5, 1),
    "batches": (lambda model: model.encode(TEXTS, batch_size=2), 5, 3),
    "by keyword": (lambda model: model.encode(inputs=TEXTS, batch_size=4), 5, 2),
    "a tuple": (lambda model: model.encode(tuple(TEXTS)), 5, 1),
    "an array": (lambda model: model.encode(np.array(TEXTS)), 5, 1),
    "a tensor": (lambda model: model.encode(TEXTS, convert_to_tensor=True), 5, 1),
    "tensors": (lambda model: model.encode(TEXTS, convert_to_numpy=False), 5, 1),
    "one tensor": (lambda model: model.encode(TEXTS[0], convert_to_tensor=True), 1, 1),
    "a query": (lambda model: model.encode_query(TEXTS[0]), 1, 1),
    "documents": (lambda model: model.encode_document(TEXTS), 5, 1),
    "normal": (lambda model: model.encode(TEXTS, normalize_embeddings=True), 5, 1),
    "bits": (lambda model: model.encode(TEXTS, precision="ubinary"), 5, 1),
    "tokens": (lambda model: model.encode(TEXTS, output_value="token_embeddings"), 5, 1),
    "everything": (lambda model: model.encode(TEXTS, output_value=None), 5, 1),
}


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return bool(left == right)


def counted(model: Any, texts: list[str]) -> int:
    """Naively: the tokens of each text by itself, where nothing is padded."""
    return sum(len(model.tokenizer(text)["input_ids"]) for text in texts)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_operation_with_true_counts(model: Any, name: str) -> None:
    call, many, batches = CALLS[name]
    plain = call(model)
    with capture() as seen:
        watched = call(model)
    assert type(watched) is type(plain)
    assert same(watched, plain)
    (span,) = seen.spans
    found = span.attributes
    assert span.name == "embeddings model"  # the name of its folder
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert found[semconv.PROVIDER_NAME] == "huggingface"
    assert found[semconv.INPUT_COUNT] == many
    assert found[names.BATCHES] == batches
    assert found[semconv.USAGE_INPUT_TOKENS] == counted(model, TEXTS if many > 1 else TEXTS[:1])
    duration = (span.end_time - span.start_time) / 1e9
    assert found[names.INPUT_RATE] == pytest.approx(many / duration, rel=0.05)


def test_the_dimension_is_that_of_the_result(model: Any) -> None:
    with capture() as seen:
        model.encode(TEXTS)
        model.encode(TEXTS, truncate_dim=64)
        model.encode(TEXTS, precision="ubinary")
        model.encode(TEXTS, output_value="token_embeddings")
    found = [span.attributes.get(semconv.EMBEDDINGS_DIMENSION_COUNT) for span in seen.spans]
    assert found == [DIMENSION, 64, DIMENSION // 8, DIMENSION]


def test_what_embeddings_are_for_is_told_where_it_is_known(model: Any) -> None:
    with capture() as seen:
        model.encode(TEXTS)
        model.encode_query(TEXTS)
        model.encode_document(TEXTS)
    found = [span.attributes.get(names.TASK_DETAIL) for span in seen.spans]
    assert found == [None, "query", "document"]


def test_metrics_add_up(model: Any) -> None:
    with capture() as seen:
        model.encode(TEXTS)
        model.encode(TEXTS[:2])
    (tokens,) = seen.metrics()["gen_ai.client.token.usage"]
    (rate,) = seen.metrics()["llmwatch.request.input_rate"]
    assert tokens.sum == counted(model, TEXTS) + counted(model, TEXTS[:2])
    assert rate.count == 2
    assert rate.attributes[semconv.OPERATION_NAME] == "embeddings"


def test_a_pool_of_processes_is_one_operation(model: Any) -> None:
    """What happens in other processes is not counted here: tokens stay unknown."""
    plain = model.encode(TEXTS * 4)
    pool = model.start_multi_process_pool(["cpu"])
    try:
        with capture() as seen:
            watched = model.encode(TEXTS * 4, pool=pool, chunk_size=10)
    finally:
        model.stop_multi_process_pool(pool)
    assert watched == pytest.approx(plain, abs=1e-5)
    (span,) = seen.spans
    assert span.attributes[semconv.INPUT_COUNT] == 20
    assert semconv.USAGE_INPUT_TOKENS not in span.attributes
    assert span.attributes[semconv.EMBEDDINGS_DIMENSION_COUNT] == DIMENSION


async def test_threads_keep_their_trace_if_the_context_goes_with_them(model: Any) -> None:
    with capture() as seen:
        with seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span:
            await asyncio.gather(*(asyncio.to_thread(model.encode, text) for text in TEXTS))
        bare = Thread(target=model.encode, args=(TEXTS[0],))
        bare.start()
        bare.join()
    mine = span.get_span_context().span_id
    operations = [each for each in seen.spans if each.name != "request"]
    assert [each.parent and each.parent.span_id for each in operations] == [mine] * 5 + [None]
    assert all(each.attributes[names.BATCHES] == 1 for each in operations)


def test_a_failing_call_ends_its_span(model: Any) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model[0].register_forward_pre_hook(interrupted)
    try:
        with capture() as seen, pytest.raises(KeyboardInterrupt):
            model.encode(TEXTS, batch_size=2)
    finally:
        handle.remove()
    (span,) = seen.spans
    assert span.attributes[semconv.ERROR_TYPE] == "KeyboardInterrupt"
    assert span.attributes[names.BATCHES] == 1
    assert semconv.EMBEDDINGS_DIMENSION_COUNT not in span.attributes
    assert "llmwatch.request.input_rate" not in seen.metrics()


def test_texts_are_captured_only_if_asked_for(model: Any) -> None:
    with capture() as seen:
        model.encode(TEXTS)
    assert semconv.INPUT_MESSAGES not in seen.spans[0].attributes
    with capture(capture_content=True) as seen:
        model.encode(TEXTS[:2])
    parts = [{"type": "text", "content": text} for text in TEXTS[:2]]
    found = json.loads(seen.spans[0].attributes[semconv.INPUT_MESSAGES])
    assert found == [{"role": "user", "parts": parts}]


def test_a_model_inside_a_model_counts_once(model: Any) -> None:
    """A module that encodes on its own is part of the call that runs it."""

    class Nested(torch.nn.Module):
        def preprocess(self, inputs: list[str], **_: Any) -> Any:
            model.encode(inputs)
            return model.preprocess(inputs)

        def forward(self, features: Any) -> Any:
            return model(features)

        def get_embedding_dimension(self) -> int:
            return DIMENSION

    outer = SentenceTransformer(modules=[Nested()], device="cpu")
    with capture() as seen:
        outer.encode(TEXTS)
    assert len(seen.spans) == 1


def test_pairs_that_are_scored_are_an_operation_of_their_own() -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[0], TEXTS[2])]
    scorer = _scorer()
    plain = scorer.predict(pairs)
    with capture() as seen:
        assert same(scorer.predict(pairs), plain)
        scorer.rank(TEXTS[0], TEXTS[1:])
    first, second = seen.spans
    assert first.name.startswith("rerank ")
    assert first.attributes[semconv.INPUT_COUNT] == 2
    assert second.attributes[semconv.INPUT_COUNT] == 4
    assert first.attributes[semconv.USAGE_INPUT_TOKENS] > 0


def _scorer() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(str(folder()))
    small = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
    )
    with TemporaryDirectory() as path:
        tokenizer.save_pretrained(path)
        BertForSequenceClassification(small).save_pretrained(path)
        return CrossEncoder(path, device="cpu", local_files_only=True)


FAULTS = ["asked", "model_name", "tokens_of", "dimension", "as_matrix"]


@pytest.mark.parametrize("name", FAULTS)
def test_our_failure_is_not_the_users(
    model: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    plain = model.encode(TEXTS)
    monkeypatch.setattr(calls, name, broken)
    monkeypatch.setattr(_guard, "strict", False)
    with capture():
        assert same(model.encode(TEXTS), plain)
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert calls._current.get() is None


class TestContract(SourceContract):
    """sentence-transformers keeps the contract of all sources."""

    model: Any

    @pytest.fixture(autouse=True)
    def _loaded(self, model: Any) -> None:
        TestContract.model = model

    def call(self) -> Any:
        """One text."""
        return self.model.encode(TEXTS[0]).tolist()

    def fail(self) -> Any:
        """A batch size that cannot be."""
        return self.model.encode(TEXTS, batch_size=0)

    def stream(self) -> Any:
        """Nothing streams here: a list."""
        return self.model.encode([TEXTS[0]]).tolist()

    def patched(self) -> list[tuple[Any, str]]:
        """What all calls end in, and where batches are made."""
        package = sys.modules[calls.PACKAGE]
        rows = []
        for path, _ in calls.CHOKE_POINTS:
            owner, name = path.split(".")
            kind = getattr(package, owner, None)  # no release has all of them
            rows += [(kind, each) for each in (name, *calls.TOKENIZERS) if hasattr(kind, each)]
        return rows


def test_a_model_of_an_older_release_is_named_too() -> None:
    """Before release 5 the inner model was kept under another name."""

    class Config:
        _name_or_path = "/home/me/models--some--model/snapshots/abc"

    class Inner:
        config = Config()

    class Old:
        def __getitem__(self, index: int) -> Any:
            module = type("Module", (), {})()
            module.auto_model = Inner()
            return module

    assert reading.model_name(Old()) == "some/model"
