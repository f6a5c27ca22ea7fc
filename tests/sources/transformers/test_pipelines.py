"""Pipelines: one operation for what is done once, as lazy as they were, and nothing changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from torch.utils.data import Dataset
from transformers import Pipeline, StoppingCriteria, StoppingCriteriaList
from transformers.pipelines import base

import llmwatch
from llmwatch import _guard, semconv
from llmwatch import semconv_models as models
from llmwatch import semconv_tasks as names
from llmwatch.signals import active
from llmwatch.sources.transformers import pooling, tasks
from llmwatch.testing import Captured, capture
from tests.sources.contract import SourceContract
from tests.sources.transformers import words
from tests.sources.transformers.words import CHAT, TEXTS

NEW = 5
"""Tokens that `words.writer` adds."""


def counted(text: str) -> int:
    """Naively: the tokens of a text."""
    return len(text.split())


class Texts(Dataset):  # type: ignore[type-arg]
    """A data set: it is worked at while results are asked for."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, index: int) -> str:
        return TEXTS[index]


SOUND = np.sin(np.arange(4000) / 7).astype(np.float32)
CHATS = [CHAT, [{"role": "user", "content": "rain fell"}]]

# What is called, the operations it makes, and the tokens that each is given.
CALLS: dict[str, tuple[Callable[[], Any], list[str], list[int | None]]] = {
    "text": (lambda: words.writer()(TEXTS[0]), ["text_completion"], [6]),
    "new text only": (
        lambda: words.writer()(TEXTS[0], return_full_text=False),
        ["text_completion"],
        [6],
    ),
    "tensors": (lambda: words.writer()(TEXTS[0], return_tensors=True), ["text_completion"], [6]),
    "texts": (lambda: words.writer()(TEXTS[:2]), ["text_completion"] * 2, [6, 10]),
    "a batch": (lambda: words.writer()(TEXTS[:2], batch_size=2), ["text_completion"], [16]),
    "several answers": (
        lambda: words.writer()(TEXTS[0], num_beams=2, num_return_sequences=2),
        ["text_completion"],
        [6],
    ),
    "a chat": (lambda: words.writer()(CHAT), ["chat"], [None]),
    "chats": (lambda: words.writer()(CHATS), ["chat"] * 2, [None, None]),
    "a batch of chats": (lambda: words.writer()(CHATS, batch_size=2), ["chat"], [None]),
    "lazy": (lambda: words.writer()(text for text in TEXTS), ["text_completion"] * 3, [6, 10, 12]),
    "lazy chats": (lambda: words.writer()(chat for chat in CHATS), ["chat"] * 2, [None, None]),
    "a data set": (lambda: words.writer()(Texts()), ["text_completion"] * 3, [6, 10, 12]),
    "judged": (lambda: words.judge()(TEXTS[0]), ["text_classification"], [6]),
    "judged many": (lambda: words.judge()(TEXTS * 2), ["text_classification"], [56]),
    "judged in batches": (
        lambda: words.judge()(TEXTS * 2, batch_size=4),
        ["text_classification"],
        [56],
    ),
    "judged lazily": (
        lambda: words.judge()(text for text in TEXTS),
        ["text_classification"] * 3,
        [6, 10, 12],
    ),
    "embedded": (lambda: words.embedder()(TEXTS[0]), ["embeddings"], [6]),
    "embedded as a tensor": (
        lambda: words.embedder()(TEXTS, return_tensors=True),
        ["embeddings"],
        [28],
    ),
    "chosen": (
        lambda: words.chooser()(TEXTS[0], candidate_labels=["rain", "words"]),
        ["zero_shot_classification"],
        [None],
    ),
    "heard": (lambda: words.listener()(SOUND.copy()), ["transcription"], [None]),
}


def whole(result: Any) -> Any:
    """What a lazy result gives, in full."""
    return list(result) if isinstance(result, base.PipelineIterator) else result


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(type(left) is type(right) and left == right)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_done_once_is_one_operation(name: str) -> None:
    """Results are the same, and a model that generates counts once, not again as a pipeline."""
    call, expected, tokens = CALLS[name]
    plain = call()
    with capture() as seen:
        watched = call()
        assert type(watched) is type(plain)
        watched = whole(watched)
    assert same(watched, whole(plain))
    assert [span.name.partition(" ")[0] for span in seen.spans] == expected
    for span, wanted in zip(seen.spans, tokens, strict=True):
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is StatusCode.UNSET
        assert span.attributes[names.TASK]
        assert span.attributes[semconv.PROVIDER_NAME] == "huggingface"
        if wanted is not None:
            assert span.attributes[semconv.USAGE_INPUT_TOKENS] == wanted
        generated = span.attributes.get(semconv.USAGE_OUTPUT_TOKENS)
        if expected[0] in ("chat", "text_completion"):
            assert generated % NEW == 0
        else:
            assert generated is None
    durations = seen.metrics()["gen_ai.client.operation.duration"]
    assert sum(point.count for point in durations) == len(expected)


def test_counts_are_those_of_the_call() -> None:
    with capture() as seen:
        words.judge()(TEXTS * 2, batch_size=4)
    (span,) = seen.spans
    found = span.attributes
    duration = (span.end_time - span.start_time) / 1e9
    assert found[semconv.INPUT_COUNT] == 6
    assert found[names.BATCHES] == 2
    assert found[names.BATCH_SIZE] == 4
    assert found[names.INPUT_RATE] == pytest.approx(6 / duration, rel=0.05)
    assert found[models.MODEL_CLASS] == "BertForSequenceClassification"
    (point,) = seen.metrics()["llmwatch.request.input_rate"]
    assert point.count == 1


class Asked:
    """A generator that knows how far it was asked."""

    def __init__(self) -> None:
        self.given = 0

    def texts(self) -> Iterator[str]:
        for text in TEXTS * 2:
            self.given += 1
            yield text


@pytest.mark.parametrize("pipe", [words.writer, words.judge])
def test_lazy_work_stays_lazy(pipe: Callable[[], Any]) -> None:
    """As far as without llmwatch, one span for each result, and none open in between."""
    plain, watched = Asked(), Asked()
    reference, steps = iter(pipe()(plain.texts())), []
    for _ in range(3):
        next(reference)
        steps.append(plain.given)
    with capture() as seen:
        lazy = pipe()(watched.texts())
        assert seen.spans == []
        iterator = iter(lazy)
        for step in range(3):
            next(iterator)
            assert watched.given == steps[step]
            assert len(seen.spans) == step + 1
            assert trace.get_current_span() is trace.INVALID_SPAN
            assert active.signals is not None
            assert not active.signals.live
        del iterator, lazy
    assert len(seen.spans) == 3  # what was not asked for was not done


def test_a_lazy_result_belongs_to_whoever_asks_for_it() -> None:
    with capture() as seen:
        tracer = seen.tracer_provider.get_tracer("test")
        lazy = iter(words.writer()(text for text in TEXTS))
        for name in ("first", "second"):
            with tracer.start_as_current_span(name):
                next(lazy)
    operations = [span for span in seen.spans if span.name.startswith("text_completion")]
    parents = {span.context.span_id: span.name for span in seen.spans}
    assert [parents[span.parent.span_id] for span in operations] == ["first", "second"]


async def test_a_call_on_another_thread_belongs_to_its_trace() -> None:
    with (
        capture() as seen,
        seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span,
    ):
        await asyncio.gather(
            asyncio.to_thread(words.writer(), TEXTS[0]),
            asyncio.to_thread(words.judge(), TEXTS[1]),
        )
    mine = span.get_span_context().span_id
    assert [each.parent.span_id for each in seen.spans if each.name != "request"] == [mine, mine]


# --- what goes wrong -----------------------------------------------------------------------------


class Interrupts(StoppingCriteria):
    """Somebody presses Ctrl-C while the third token is made."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            raise KeyboardInterrupt
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def test_an_interrupted_generation_ends_its_span() -> None:
    with capture(capture_content=True) as seen, pytest.raises(KeyboardInterrupt):
        words.writer()(CHAT, stopping_criteria=StoppingCriteriaList([Interrupts()]))
    (span,) = seen.spans
    assert span.name.startswith("chat ")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.ERROR_TYPE] == "KeyboardInterrupt"


@pytest.mark.parametrize("lazy", [False, True])
def test_a_model_that_fails_ends_the_span(lazy: bool) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no memory left")

    pipe = words.judge()
    handle = pipe.model.register_forward_pre_hook(broken)
    try:
        with capture() as seen, pytest.raises(RuntimeError, match="no memory left"):
            whole(pipe(text for text in TEXTS) if lazy else pipe(TEXTS))
    finally:
        handle.remove()
    (span,) = seen.spans
    assert span.name.startswith("text_classification ")
    assert span.attributes[semconv.ERROR_TYPE] == "RuntimeError"


@pytest.mark.parametrize("pipe", [words.writer, words.judge])
def test_inputs_that_cannot_be_read_are_an_error_of_the_call(pipe: Callable[[], Any]) -> None:
    with pytest.raises(Exception) as plain:  # noqa: PT011 - whatever the library raises
        pipe()(3)
    with capture() as seen, pytest.raises(plain.type):
        pipe()(3)
    (span,) = seen.spans
    assert span.attributes[semconv.ERROR_TYPE] == plain.type.__qualname__


def test_nothing_is_an_operation_where_there_is_nothing_to_do() -> None:
    with capture() as seen:
        assert whole(words.judge()(text for text in ())) == []
    assert seen.spans == []


# --- pipelines of the user's own -------------------------------------------------------------------


class Shout(Pipeline):  # type: ignore[misc]
    """Says what the model says, louder; it asks the model itself."""

    def _sanitize_parameters(self, **given: Any) -> Any:
        return {}, {}, {}

    def preprocess(self, text: str) -> Any:
        return self.tokenizer(text, return_tensors="pt")

    def _forward(self, inputs: Any) -> Any:
        ids = self.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        return {"ids": ids}

    def postprocess(self, outputs: Any) -> str:
        return self.tokenizer.decode(outputs["ids"][0]).upper()  # type: ignore[no-any-return]


class Silent(Shout):
    """Could ask the model for text, and does not."""

    def _forward(self, inputs: Any) -> Any:
        return {"ids": inputs["input_ids"]}


@pytest.mark.parametrize(("kind", "tokens"), [(Shout, NEW), (Silent, None)])
def test_a_pipeline_of_the_users_own_counts_once(kind: Any, tokens: int | None) -> None:
    pipe = kind(model=words.speaker(), tokenizer=words.tokenizer(), device=torch.device("cpu"))
    plain = pipe(TEXTS[0])
    with capture() as seen:
        assert pipe(TEXTS[0]) == plain
    (span,) = seen.spans
    assert span.attributes.get(semconv.USAGE_OUTPUT_TOKENS) == tokens


# --- content ---------------------------------------------------------------------------------------


def content(seen: Captured, key: str) -> Any:
    (span,) = seen.spans
    found = span.attributes.get(key)
    return None if found is None else json.loads(found)


def test_texts_are_captured_only_if_asked_for() -> None:
    with capture() as seen:
        words.writer()(CHAT)
    assert content(seen, semconv.INPUT_MESSAGES) is None
    with capture(capture_content=True) as seen:
        (answer,) = words.writer()(CHAT)
    said = answer["generated_text"][-1]["content"]
    assert content(seen, semconv.INPUT_MESSAGES) == [
        {"role": each["role"], "parts": [{"type": "text", "content": each["content"]}]}
        for each in CHAT
    ]
    assert content(seen, semconv.OUTPUT_MESSAGES) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": said}],
            "finish_reason": "length",
        }
    ]


def test_a_batch_has_the_content_of_all_its_texts() -> None:
    with capture(capture_content=True) as seen:
        answers = words.writer()(TEXTS[:2], batch_size=2, return_full_text=False)
    asked = [each["parts"][0]["content"] for each in content(seen, semconv.INPUT_MESSAGES)]
    said = [each["parts"][0]["content"] for each in content(seen, semconv.OUTPUT_MESSAGES)]
    assert asked == TEXTS[:2]
    assert said == [answer[0]["generated_text"] for answer in answers]


# --- drift -----------------------------------------------------------------------------------------


POOLS = {
    "mean": lambda hidden: hidden.mean(0),
    "first": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
}


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("kept", [slice(0, 3), slice(2, 5), slice(0, 5)])
def test_padding_on_either_side_is_no_part_of_a_vector(how: str, kept: slice) -> None:
    hidden, mask = torch.randn(2, 5, 4), torch.zeros(2, 5, dtype=torch.int64)
    mask[0, kept], mask[1] = 1, 1
    one, other = pooling.pooled(hidden, mask, how)
    assert one.numpy() == pytest.approx(POOLS[how](hidden[0, kept].numpy()), abs=1e-6)
    assert other.numpy() == pytest.approx(POOLS[how](hidden[1].numpy()), abs=1e-6)
    unmasked = pooling.pooled(hidden, None, how)[1].numpy()
    assert unmasked == pytest.approx(other.numpy(), abs=1e-6)


@pytest.mark.parametrize("how", POOLS)
def test_hidden_states_are_watched_for_drift_as_one_vector_a_text(how: str) -> None:
    """Padding does not count: a text gives the same vector in a batch and alone."""
    from llmwatch.signals import drift_feed

    got: list[Any] = []

    class Kept:
        pooling = how

        def put_matrix(self, operation: Any, matrix: Any) -> None:
            got.extend(matrix.clone())

    with capture():
        drift_feed.feed = Kept()  # type: ignore[assignment]
        try:
            words.embedder()(TEXTS, batch_size=3)
            alone = [POOLS[how](np.asarray(words.embedder()(text))[0]) for text in TEXTS]
        finally:
            drift_feed.feed = None
    for vector, wanted in zip(got, alone, strict=False):
        assert vector.numpy() == pytest.approx(wanted, abs=1e-5)


# --- harm ------------------------------------------------------------------------------------------

FAULTS = ["operation_name", "attributes_of", "generates", "count", "tokens_of", "mask_of"]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("call", ["text", "a batch of chats", "judged in batches", "embedded"])
def test_our_failure_is_not_the_users(
    monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    make = CALLS[call][0]
    plain = make()
    monkeypatch.setattr(tasks, name, broken)
    monkeypatch.setattr(_guard, "strict", False)
    with capture():
        assert same(make(), plain)
    assert trace.get_current_span() is trace.INVALID_SPAN


class TestContract(SourceContract):
    """Pipelines keep the contract of all sources."""

    def call(self) -> Any:
        """A model that generates."""
        return words.writer()(TEXTS[0])

    def fail(self) -> Any:
        """Its input is no text."""
        return words.writer()(3)

    def stream(self) -> Any:
        """A lazy one, of one text."""
        return words.judge()(text for text in TEXTS[:1])

    def patched(self) -> list[tuple[Any, str]]:
        """Where all pipelines end."""
        return [(base.Pipeline, "__call__"), (base.Pipeline, "forward")]


def test_suppressed_calls_are_not_watched() -> None:
    from opentelemetry import context

    with capture() as seen:
        token = context.attach(context.set_value("suppress_instrumentation", True))
        words.judge()(TEXTS)
        words.writer()(TEXTS[0])
        context.detach(token)
    assert seen.spans == []


def test_a_pipeline_is_an_operation_inside_a_decorated_function() -> None:
    """A nested span, and the outer function's own."""

    @llmwatch.watch(operation="invoke_agent", name="clerk")
    def clerk() -> Any:
        return words.judge()(TEXTS)

    with capture() as seen:
        clerk()
    inner, outer = seen.spans
    assert inner.parent.span_id == outer.context.span_id
