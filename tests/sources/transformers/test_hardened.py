"""What hostile use brought to light; each case once went wrong."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from threading import Thread
from typing import Any

import pytest
from transformers.generation.utils import GenerationMixin

from llmwatch import semconv, semconv_models
from llmwatch.sources.sentence_transformers.reading import dimension
from llmwatch.testing import capture
from tests.sources.transformers import tiny

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


class Calling:
    """A streamer that calls back once, with the first tokens."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def put(self, value: Any) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            call()

    def end(self) -> None:
        """See ``transformers.generation.streamers.BaseStreamer``."""


def say(model: Any, tokens: int, **more: Any) -> Any:
    return model.generate(tiny.prompts(), max_new_tokens=tokens, pad_token_id=0, **more)


def outputs(seen: Any) -> dict[str, int]:
    return {span.name: span.attributes[semconv.USAGE_OUTPUT_TOKENS] for span in seen.spans}


BOTH = {"text_completion LlamaForCausalLM": 12, "text_completion GPT2LMHeadModel": 5}


def test_a_thread_that_inherits_the_context_works_at_a_request_of_its_own() -> None:
    """Its steps are not counted to the generation whose streamer started it."""
    threads = []

    def start() -> None:
        context = contextvars.copy_context()
        threads.append(Thread(target=context.run, args=(say, tiny.gpt2(), 5)))
        threads[0].start()
        threads[0].join()

    with capture(sources=["transformers"]) as seen:
        say(tiny.llama(), 12, streamer=Calling(start))
    assert outputs(seen) == BOTH


def test_a_task_that_outlives_a_generation_works_at_a_request_of_its_own() -> None:
    """A streamer starts it; it generates when the request of that streamer is over."""

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        async def check() -> None:
            say(tiny.gpt2(), 5)

        def start() -> None:
            tasks.append(asyncio.ensure_future(check()))

        say(tiny.llama(), 12, streamer=Calling(start))
        await tasks[0]

    with capture(sources=["transformers"]) as seen:
        asyncio.run(main())
    assert outputs(seen) == BOTH


def test_methods_can_be_pickled_and_copied_while_they_are_watched() -> None:
    """As without llmwatch: pools of processes are handed ``model.generate``."""
    model = tiny.gpt2()
    with capture(sources=["transformers"]) as seen:
        for made in (
            pickle.loads(pickle.dumps(model.generate)),
            deepcopy({"own": model.generate})["own"],
        ):
            assert made.__self__ is not model
            made(tiny.prompts(), max_new_tokens=2, pad_token_id=0)
        assert copy(model.generate).__self__ is model
        function = pickle.loads(pickle.dumps(GenerationMixin.generate))
        assert function.__wrapped__ is GenerationMixin.generate.__wrapped__
        assert deepcopy(GenerationMixin.generate).__wrapped__ is function.__wrapped__
        plain = pickle.dumps(model.generate)
    assert len(seen.spans) == 2
    assert type(pickle.loads(plain)) is type(model.forward)


@pytest.mark.parametrize("copied", [copy, deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_loop_of_the_users_own_may_copy_its_criteria(copied: Callable[[Any], Any]) -> None:
    """They are a list as any other; copied, they go on ticking, but not in a pickle."""

    def loop(model: Any, input_ids: Any, stopping_criteria: Any = None, **kwargs: Any) -> Any:
        criteria = copied(stopping_criteria)
        assert list(map(type, criteria)) == list(map(type, stopping_criteria))
        while not criteria(input_ids, None).all():
            input_ids = torch.cat([input_ids, input_ids[:, -1:]], dim=1)
        return input_ids

    with capture(sources=["transformers"]) as seen:
        assert say(tiny.llama(), 4, custom_generate=loop).shape[1] == 9 + 4
    steps = seen.spans[0].attributes.get(semconv_models.GENERATION_STEPS)
    assert steps == (4 + 1 if copied in (copy, deepcopy) else None)


@pytest.mark.parametrize("tokens", [1, 4])
def test_confidence_is_not_taken_for_the_length_of_a_prompt(tokens: int) -> None:
    """Where no tokens are given to be counted: a sound, or nothing at all."""
    sound = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(1))
    with capture(sources=["transformers"], confidence=True) as seen:
        tiny.whisper().generate(sound, max_new_tokens=tokens)
        tiny.llama().generate(max_new_tokens=tokens)
    for span in seen.spans:
        assert semconv.USAGE_INPUT_TOKENS not in span.attributes
        assert span.attributes[semconv_models.GENERATION_PERPLEXITY] >= 1
        assert span.attributes[semconv.RESPONSE_FINISH_REASONS]


def test_of_no_texts_there_is_no_dimension() -> None:
    assert dimension(torch.empty(0)) is None
    assert dimension(torch.empty(0, 8)) == 8
