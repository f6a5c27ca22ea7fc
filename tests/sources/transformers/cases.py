"""Every way to call ``generate``, on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from tests.sources.transformers import tiny
from tests.sources.transformers.tiny import IMAGE, padded, prompts

NEW = 12
"""The most new tokens."""


class Case(NamedTuple):
    """One call of ``generate``."""

    model: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]]
    mode: str
    drafts: bool = False
    """Whether tokens come several at a time."""
    prompt: int | None = 0
    """Tokens of all prompts together; 0: as the attention mask or the ids say."""
    start: int | None = None
    """Length of the result before the first new token; None: that of the ids."""


class Counted:
    """A streamer of the user's own."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def put(self, value: Any) -> None:
        self.got.append(value)

    def end(self) -> None:
        self.got.append("end")


class AtLength(StoppingCriteria):
    """A criterion of the user's own: ends everything at a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        done = input_ids.shape[1] >= self.length
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool)


def _case(model: Any, mode: str = "greedy_search", given: Any = padded, **more: Any) -> Case:
    settings = {k: more.pop(k) for k in ("drafts", "prompt", "start") if k in more}

    def arguments() -> dict[str, Any]:
        made = {name: value() if callable(value) else value for name, value in more.items()}
        return given() | {"max_new_tokens": NEW, "pad_token_id": tiny.PADDING} | made

    return Case(model, arguments, mode, **settings)


def one() -> dict[str, Any]:
    ids = prompts(1, 9)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def repeating() -> dict[str, Any]:
    return {"input_ids": prompts(1, 5).repeat(1, 4)}


def embedded() -> dict[str, Any]:
    given = padded()
    given["inputs_embeds"] = tiny.llama().get_input_embeddings()(given.pop("input_ids")).detach()
    return given


def picture() -> dict[str, Any]:
    ids = prompts(1, 9)
    ids[0, 2:6] = IMAGE
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "pixel_values": pixels}


def _encoded() -> dict[str, Any]:
    given = padded()
    return {name: value.flip(1) for name, value in given.items()}  # padded on the right


def _own_loop(model: Any, input_ids: Any, stopping_criteria: Any = None, **kwargs: Any) -> Any:
    """A decoding loop of the user's own."""
    done = torch.zeros(input_ids.shape[0], dtype=torch.bool)
    while not done.all():
        scores = model(input_ids).logits[:, -1]
        input_ids = torch.cat([input_ids, scores.argmax(-1, keepdim=True)], dim=1)
        done |= stopping_criteria(input_ids, None)
    return input_ids


CASES = {
    "greedy": _case(tiny.gpt2),
    "one": _case(tiny.llama, given=one),
    "positional": _case(tiny.llama, given=lambda: {"inputs": prompts(2)}),
    "ends": _case(tiny.llama, eos_token_id=[61, 8, 89]),
    "no mask": _case(tiny.llama, given=lambda: {"input_ids": padded()["input_ids"]}),
    "no cache": _case(tiny.gpt2, use_cache=False),
    "static cache": _case(tiny.llama, cache_implementation="static"),
    "dict": _case(tiny.llama, return_dict_in_generate=True, output_scores=True),
    "sample": _case(tiny.gpt2, "sample", do_sample=True, temperature=0.9, top_k=20),
    "several": _case(tiny.qwen, "sample", do_sample=True, num_return_sequences=3),
    "beams": _case(tiny.gpt2, "beam_search", num_beams=3),
    "beams that end": _case(tiny.llama, "beam_search", num_beams=3, eos_token_id=[61, 8]),
    "best beams": _case(tiny.llama, "beam_search", num_beams=4, num_return_sequences=2),
    "beams by chance": _case(tiny.llama, "beam_sample", num_beams=2, do_sample=True),
    "dict of beams": _case(
        tiny.llama, "beam_search", num_beams=2, return_dict_in_generate=True, output_scores=True
    ),
    "assisted": _case(
        tiny.gpt2, "assisted_generation", one, drafts=True, assistant_model=tiny.small_gpt2
    ),
    "assisted by its equal": _case(
        tiny.llama, "assisted_generation", one, drafts=True, assistant_model=tiny.llama
    ),
    "assisted sampling": _case(
        tiny.gpt2,
        "assisted_generation",
        one,
        drafts=True,
        assistant_model=tiny.small_gpt2,
        do_sample=True,
    ),
    "prompt lookup": _case(
        tiny.llama, "assisted_generation", repeating, drafts=True, prompt_lookup_num_tokens=3
    ),
    "early exit": _case(
        tiny.llama, "assisted_generation", one, drafts=True, assistant_early_exit=1
    ),
    "chunked prefill": _case(tiny.llama, prefill_chunk_size=4),
    "embeddings": _case(tiny.llama, given=embedded, prompt=3 * 9 - 3, start=0),
    "streamer": _case(tiny.llama, given=one, streamer=Counted),
    "own criteria": _case(
        tiny.llama, stopping_criteria=lambda: StoppingCriteriaList([AtLength(9 + 5)])
    ),
    "own loop": _case(tiny.llama, "custom", one, custom_generate=lambda: _own_loop),
    "time": _case(tiny.gpt2, max_time=60.0),
    "qwen": _case(tiny.qwen),
    "peft": _case(tiny.lora),
    "t5": _case(tiny.t5, given=_encoded, start=1),
    "t5 beams": _case(tiny.t5, "beam_search", _encoded, num_beams=2, start=1),
    "picture": _case(tiny.llava, given=picture),
}


def call(case: Case, **more: Any) -> Any:
    """Make it, from the same seed each time."""
    model, arguments = case.model(), case.arguments() | more
    torch.manual_seed(11)
    return model.generate(**arguments)


def ids_of(result: Any) -> Any:
    """The ids in what ``generate`` returned."""
    return result if isinstance(result, torch.Tensor) else result.sequences


def same(left: Any, right: Any) -> bool:
    """Whether two results are equal bit by bit, whatever they are made of."""
    if isinstance(left, torch.Tensor):
        return bool(left.dtype == right.dtype and torch.equal(left, right))
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "items"):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    return hasattr(left, "layers") or left == right
