"""What one request tells, and that it is one, whatever happens inside it."""

from __future__ import annotations

import inspect
import logging
import threading
from typing import Any

import pytest
import torch
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.utils import GenerationMixin

import llmwatch
from llmwatch.signals.context import current_operation
from llmwatch.testing import capture
from tests.sources.transformers import tiny
from tests.sources.transformers.cases import CASES, AtLength, call, one, same
from tests.sources.transformers.tiny import padded, prompts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
MIXIN = GenerationMixin
WATCH: dict[str, Any] = {"sources": ["transformers"]}


class Raises(StoppingCriteria):
    """Raises at the third step."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.steps = error, 0

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            raise self.error
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


class Forces(LogitsProcessor):
    """Lets row r choose ``tokens[r]`` at its next step, while there are any."""

    def __init__(self, *tokens: list[int]) -> None:
        self.tokens = [list(row) for row in tokens]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for row, tokens in enumerate(self.tokens):
            if tokens:
                token = tokens.pop(0)
                scores[row] = -float("inf")
                scores[row, token] = 0.0
        return scores


def generate(model: Any = tiny.llama, **more: Any) -> Any:
    given = more.pop("given", one)()
    defaults = {"max_new_tokens": 6, "pad_token_id": tiny.PADDING}
    return model().generate(**given, **defaults | more)


def test_a_span_says_what_ran_and_how():
    """Conventions first, then what they lack."""
    with capture(**WATCH) as seen:
        generate(do_sample=True, temperature=0.5, top_k=7, top_p=0.9, repetition_penalty=1.1)
    (span,) = seen.spans
    assert span.name == "text_completion LlamaForCausalLM"
    assert span.kind is SpanKind.INTERNAL
    expected = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "huggingface",
        "gen_ai.request.model": "LlamaForCausalLM",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 7,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 6,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.response.finish_reasons": ("length",),
        "llmwatch.model.class": "LlamaForCausalLM",
        "llmwatch.model.parameters": sum(p.numel() for p in tiny.llama().parameters()),
        "llmwatch.model.device": "cpu",
        "llmwatch.model.dtype": "float32",
        "llmwatch.generation.mode": "sample",
        "llmwatch.generation.batch_size": 1,
        "llmwatch.generation.repetition_penalty": 1.1,
        "llmwatch.generation.cache.type": "DynamicCache",
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    # keys and values: two layers, two heads of 16, and the last token is not in it
    assert span.attributes["llmwatch.generation.cache.size"] == 2 * 2 * 32 * (9 + 5) * 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("gpt2", "gpt2"),
        ("/srv/secret/models/smol", "smol"),
        ("./checkpoints/run-7/", "run-7"),
        ("/c/hub/models--org--name/snapshots/0123abc", "org/name"),
        ("", "LlamaForCausalLM"),
    ],
)
def test_a_model_is_called_by_its_name_not_its_place(path, name, monkeypatch):
    from llmwatch.sources.transformers import models

    monkeypatch.setattr(models, "_known", type(models._known)())
    monkeypatch.setattr(tiny.llama().config, "_name_or_path", path)
    assert models.model_of(tiny.llama()).name == name


# --- one request ---------------------------------------------------------------------------------


def test_drafting_counts_no_tokens_of_its_own():
    """Assisted decoding calls ``generate`` again and again; metrics see one request."""
    calls = []
    original = MIXIN.generate

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self)
        return original(self, *args, **kwargs)

    case = CASES["assisted"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MIXIN, "generate", counted)
        with capture(**WATCH) as seen:
            call(case)
    assert len(calls) > 3
    (span,) = seen.spans
    output = span.attributes["gen_ai.usage.output_tokens"]
    assert output == 12
    points = seen.metrics()
    usage = {p.attributes["gen_ai.token.type"]: p.sum for p in points["gen_ai.client.token.usage"]}
    assert usage == {"input": 9, "output": 12}
    (requests,) = points["gen_ai.server.request.duration"]
    assert requests.count == 1
    drafts = {p.attributes["llmwatch.draft"]: p.value for p in points["llmwatch.generation.drafts"]}
    assert drafts["accepted"] == span.attributes["llmwatch.generation.accepted_tokens"]
    assert sum(drafts.values()) == span.attributes["llmwatch.generation.drafted_tokens"]


@pytest.mark.parametrize(
    ("frames", "more"), [(100, {}), (100, {"return_timestamps": False, "num_beams": 2})]
)
def test_whisper_is_one_request(frames, more):
    """It has a ``generate`` of its own round the mixin's; what it listens to is no prompt."""
    sound = torch.randn(2, 8, frames, generator=torch.Generator().manual_seed(0))
    model = tiny.whisper()
    plain = model.generate(sound, max_new_tokens=10, **more)
    with capture(**WATCH) as seen:
        watched = model.generate(sound, max_new_tokens=10, **more)
    assert same(plain, watched)
    (span,) = seen.spans
    found = span.attributes
    assert found["llmwatch.model.class"] == "WhisperForConditionalGeneration"
    assert found["llmwatch.generation.batch_size"] == 2
    assert "gen_ai.usage.input_tokens" not in found
    assert found["gen_ai.usage.output_tokens"] == sum(found["llmwatch.generation.output_tokens"])
    assert found["llmwatch.generation.time_to_first_token"] > 0


def test_a_long_recording_is_one_request_of_several_loops():
    """The time between two pieces is no gap between tokens."""
    sound = torch.randn(1, 8, 250, generator=torch.Generator().manual_seed(0))
    model = tiny.whisper()
    settings: dict[str, Any] = {"max_new_tokens": 8, "return_timestamps": True}
    model.generation_config.no_timestamps_token_id = 40
    try:
        mask = torch.ones(1, 250, dtype=torch.long)
        plain = model.generate(sound, attention_mask=mask, **settings)
        with capture(timeline=True, **WATCH) as seen:
            watched = model.generate(sound, attention_mask=mask, **settings)
    finally:
        del model.generation_config.no_timestamps_token_id
    assert same(plain, watched)
    (span,) = seen.spans
    found = span.attributes
    loops = found["llmwatch.generation.loops"]
    assert loops > 1
    (gaps,) = seen.metrics()["llmwatch.generation.inter_token_time"]
    assert gaps.count == found["llmwatch.generation.steps"] - loops
    assert len(found["llmwatch.generation.timeline"]) == found["llmwatch.generation.steps"]


def test_a_custom_recipe_from_a_folder_is_one_request(tmp_path):
    """It is handed the model and may call ``generate`` again."""
    folder = tmp_path / "custom_generate"
    folder.mkdir()
    (folder / "generate.py").write_text(
        "def generate(model, input_ids=None, **kwargs):\n"
        "    kwargs = {name: value for name, value in kwargs.items() if value is not None}\n"
        "    return model.generate(input_ids=input_ids, **kwargs)\n"
    )
    with capture(**WATCH) as seen:
        ids = generate(custom_generate=str(tmp_path), trust_remote_code=True)
    assert same(ids, generate())
    (span,) = seen.spans
    assert span.attributes["gen_ai.usage.output_tokens"] == 6
    assert span.attributes["llmwatch.generation.steps"] == 6


def test_spans_nest():
    """Under whatever span is current; and what runs inside nests under ours."""
    inside = []

    class Looks(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            inside.append(trace.get_current_span().get_span_context().span_id)
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    with capture(**WATCH) as seen:
        tracer = seen.tracer_provider.get_tracer("mine")
        with tracer.start_as_current_span("outer") as outer:
            generate(stopping_criteria=StoppingCriteriaList([Looks()]))
            assert trace.get_current_span() is outer
    span, _ = seen.spans
    assert span.parent.span_id == outer.get_span_context().span_id
    assert set(inside) == {span.context.span_id}


def test_the_operation_says_which_phase_it_is_in():
    """Prefill until the first token was chosen, for whoever looks at the forward passes."""
    phases = []

    def look(*_: Any) -> None:
        operation = current_operation()
        assert operation is not None
        phases.append(operation.phase)

    handle = tiny.llama().register_forward_pre_hook(look)
    try:
        with capture(**WATCH):
            generate(prefill_chunk_size=4)
    finally:
        handle.remove()
    pieces = len(phases) - 5
    assert phases == ["prefill"] * pieces + ["decode"] * 5


def test_threads_are_kept_apart():
    """Each with a request of its own, all at the same model."""
    plain = {rows: generate(given=lambda rows=rows: padded(rows)) for rows in (1, 2, 3)}
    results: list[tuple[int, Any]] = []

    def work(rows: int) -> None:
        results.append((rows, generate(given=lambda: padded(rows))))

    with capture(**WATCH) as seen:
        threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 3) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(same(ids, plain[rows]) for rows, ids in results)
    batches = [span.attributes["llmwatch.generation.batch_size"] for span in seen.spans]
    assert sorted(batches) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    for span in seen.spans:
        found = span.attributes
        assert found["llmwatch.generation.steps"] == 6
        assert (
            len(found["llmwatch.generation.output_tokens"])
            == found["llmwatch.generation.batch_size"]
        )


# --- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_on_the_way_ends_the_span(error):
    """Its steps so far are told; what it would have come to is not."""
    with capture(**WATCH) as seen, pytest.raises(type(error)) as raised:
        generate(stopping_criteria=StoppingCriteriaList([Raises(error)]))
    assert raised.value is error
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    found = span.attributes
    assert found["error.type"] == type(error).__name__
    assert found["llmwatch.generation.steps"] == 3
    assert found["llmwatch.generation.time_to_first_token"] > 0
    assert "gen_ai.usage.output_tokens" not in found
    points = seen.metrics()
    (duration,) = points["gen_ai.server.request.duration"]
    assert duration.attributes["error.type"] == type(error).__name__
    assert "gen_ai.server.time_to_first_token" not in points
    assert current_operation() is None


def test_a_call_that_is_refused_ends_its_span():
    """Arguments that transformers does not accept."""
    with capture(**WATCH) as seen, pytest.raises(ValueError, match="nonsense"):
        generate(nonsense=3)
    (span,) = seen.spans
    assert span.attributes["error.type"] == "ValueError"
    assert "llmwatch.generation.steps" not in span.attributes


def reasons(**more: Any) -> tuple[Any, Any]:
    with capture(**WATCH) as seen:
        generate(**more)
    (span,) = seen.spans
    found = span.attributes
    return (
        found["gen_ai.response.finish_reasons"],
        found["llmwatch.generation.output_tokens"],
    )


def forced(*tokens: list[int]) -> LogitsProcessorList:
    return LogitsProcessorList([Forces(*tokens)])


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A letter for each token, from ``!`` on; 44 is M."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    letters = {chr(33 + number): number for number in range(tiny.VOCABULARY)}
    made = Tokenizer(models.BPE(letters, []))
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def test_each_sequence_says_why_it_ended(tokenizer):
    """End token, stop string, length, time, a criterion of the user's own."""
    two = lambda: padded(2)  # noqa: E731
    assert reasons() == (("length",), (6,))
    ends = forced([5, tiny.END], [5, 6, 7, 8, 9, 10])
    assert reasons(given=two, logits_processor=ends) == (("stop", "length"), (2, 6))
    assert reasons(logits_processor=forced([5] * 5 + [tiny.END])) == (("stop",), (6,))
    stops: dict[str, Any] = {"stop_strings": ["M"], "tokenizer": tokenizer}
    assert reasons(logits_processor=forced([5, 44]), **stops) == (("stop_string",), (2,))
    both = forced([5, 44], [5, 6, 7, tiny.END])
    assert reasons(given=two, logits_processor=both, **stops) == (("stop_string", "stop"), (2, 4))
    assert reasons(max_time=1e-9) == (("time",), (1,))
    own = StoppingCriteriaList([AtLength(9 + 4)])
    assert reasons(stopping_criteria=own) == (("custom",), (4,))


def test_padding_that_looks_like_an_end_is_no_token(tokenizer):
    """Many models pad with their end token: the first one may be padding."""
    both = forced([5, 44], [5, 6, 7, 8, 9, 10])
    found = reasons(
        given=lambda: padded(2),
        logits_processor=both,
        stop_strings=["M"],
        tokenizer=tokenizer,
        pad_token_id=tiny.END,
    )
    assert found == (("stop_string", "length"), (2, 6))


def test_a_cache_from_before_is_told_apart():
    """A second turn processes only what is new."""
    model, ids = tiny.llama(), prompts(1, 9)
    first = model.generate(ids, max_new_tokens=4, return_dict_in_generate=True, pad_token_id=0)
    longer = torch.cat([first.sequences, prompts(1, 3, seed=5)], dim=1)
    held = first.past_key_values.get_seq_length()
    with capture(**WATCH) as seen:
        model.generate(longer, past_key_values=first.past_key_values, max_new_tokens=4)
    (span,) = seen.spans
    assert span.attributes["gen_ai.usage.input_tokens"] == longer.shape[1]
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == held
    prefill = span.attributes["llmwatch.generation.prefill.time"]
    rate = span.attributes["llmwatch.generation.prefill.token_rate"]
    assert rate == pytest.approx((longer.shape[1] - held) / prefill)


# --- doing no harm -------------------------------------------------------------------------------


def test_suppressed_and_undone_it_says_nothing():
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with capture(**WATCH) as seen:
        with suppress_instrumentation():
            generate()
        assert seen.spans == []
    generate()
    assert seen.spans == []


def test_undoing_in_the_middle_changes_nothing():
    """Whoever undoes while a model generates gets the same tokens."""
    plain = generate(max_new_tokens=8)

    class Undoes(StoppingCriteria):
        steps = 0

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps == 4:
                llmwatch.uninstrument()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    with capture(**WATCH):
        ids = generate(max_new_tokens=8, stopping_criteria=StoppingCriteriaList([Undoes()]))
    assert same(plain, ids)


METHODS = [
    "generate",
    "_validate_generated_length",
    "_prepare_cache_for_generation",
    "_get_logits_processor",
    "_get_stopping_criteria",
    "_get_candidate_generator",
    "_has_unfinished_sequences",
]


def test_undo_is_exact():
    """Every method is the very object that it was."""
    before = [vars(MIXIN)[name] for name in METHODS]
    for _ in range(2):
        with capture(**WATCH):
            assert vars(MIXIN)["generate"] is not before[0]
            generate()
    assert all(vars(MIXIN)[name] is then for name, then in zip(METHODS, before, strict=True))
    generator = tiny.llama()
    assert "generate" not in vars(generator)


@pytest.mark.parametrize("missing", METHODS[1:])
def test_releases_that_lack_a_private_method_are_watched_with_less(missing, monkeypatch, caplog):
    """Steps and times stay where they can; outputs are the same in any case."""
    case = CASES["greedy"]
    plain = call(case)
    original = getattr(MIXIN, missing)
    monkeypatch.setattr(MIXIN, f"other{missing}", original, raising=False)
    moved = _calls_moved(missing)
    monkeypatch.delattr(MIXIN, missing)
    for name, function in moved.items():
        monkeypatch.setattr(MIXIN, name, function)
    with caplog.at_level(logging.WARNING, logger="llmwatch"), capture(**WATCH) as seen:
        for _ in range(2):
            assert same(call(case), plain)
    for span in seen.spans:
        assert span.attributes["llmwatch.generation.steps"] == 12
        assert span.attributes["llmwatch.generation.time_to_first_token"] > 0
        assert span.attributes["gen_ai.usage.output_tokens"] == 36
    told = [record for record in caplog.records if missing in record.getMessage()]
    assert len(told) == (missing == "_get_stopping_criteria")


def _calls_moved(name: str) -> dict[str, Any]:
    """The methods that call *name*, calling ``other`` + *name* instead."""
    import types

    moved = {}
    for caller, function in list(vars(MIXIN).items()):
        plain = inspect.unwrap(function)
        code = getattr(plain, "__code__", None)
        if code is None or name not in code.co_names:
            continue
        names = tuple(f"other{each}" if each == name else each for each in code.co_names)
        made = types.FunctionType(
            code.replace(co_names=names),
            plain.__globals__,
            plain.__name__,
            plain.__defaults__,
            plain.__closure__,
        )
        made.__kwdefaults__ = plain.__kwdefaults__
        moved[caller] = torch.no_grad()(made)
    return moved
