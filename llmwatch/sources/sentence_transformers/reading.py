"""What a call asked for, and what its batches and its result hold.

Everything is read by duck type: releases differ in where their classes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llmwatch import semconv
from llmwatch import semconv_tasks as tasks
from llmwatch.measure.naming import name_of

ARGUMENTS = (
    "inputs",
    "prompt_name",
    "prompt",
    "batch_size",
    "show_progress_bar",
    "output_value",
    "precision",
)
"""The first parameters of ``encode``, in all releases; the first was called ``sentences``."""


class Asked(NamedTuple):
    """What a call was given."""

    inputs: Any
    many: int
    """How many inputs."""
    detail: str | None
    comparable: bool
    """True where the result is plain embeddings, which can be compared with others."""

    def attributes(self) -> dict[str, Any]:
        """Attributes for the start of the span."""
        found: dict[str, Any] = {semconv.INPUT_COUNT: self.many}
        if self.detail is not None:
            found[tasks.TASK_DETAIL] = self.detail
        return found

    def messages(self) -> list[dict[str, Any]]:
        """The inputs as content: one message, a part for each."""
        inputs = self.inputs if isinstance(self.inputs, (list, tuple)) else [self.inputs]
        parts = [
            {"type": "text", "content": each if isinstance(each, str) else repr(type(each))}
            for each in inputs
        ]
        return [{"role": "user", "parts": parts}]


def asked(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    """Read the arguments of ``encode`` or ``predict``."""
    given = dict(zip(ARGUMENTS, args, strict=False)) | dict(kwargs)
    inputs = given.get("inputs", given.get("sentences"))
    detail = given.get("task")
    return Asked(
        inputs,
        _many(model, inputs),
        detail if isinstance(detail, str) else None,
        given.get("output_value", "sentence_embedding") == "sentence_embedding"
        and given.get("precision", "float32") in (None, "float32"),
    )


def _many(model: Any, inputs: Any) -> int:
    singular = getattr(model, "is_singular_input", None)  # since release 6
    one = singular(inputs) if singular is not None else isinstance(inputs, str)
    return 1 if one or not hasattr(inputs, "__len__") else len(inputs)


def model_name(model: Any) -> str | None:
    """The model's id; of a folder only the name."""
    inner = getattr(model, "transformers_model", None)
    if inner is None:  # before release 5
        inner = getattr(model[0], "auto_model", None)
    name = getattr(getattr(inner, "config", None), "_name_or_path", None)
    return (name_of(name) or None) if isinstance(name, str) else None


def tokens_of(features: Any) -> int | None:
    """Tokens in a batch, without padding; None where the batch is no text.

    Cost: 5 µs, on the CPU, where the tokenizer has put them.
    """
    if not isinstance(features, Mapping):
        return None
    mask = features.get("attention_mask")
    if mask is None:  # nothing is padded: sequences lie one behind the other
        ids = features.get("input_ids")
        return None if ids is None else int(ids.numel())
    return int(mask.sum())


def dimension(result: Any) -> int | None:
    """Length of the vectors in a result of ``encode``, whatever form it has."""
    if isinstance(result, list) and result:
        result = result[0]
    shape = getattr(result, "shape", None)
    return (int(shape[-1]) or None) if shape else None  # of no inputs there is none


def as_matrix(result: Any) -> Any:
    """The vectors of a result, as what `rows_of` takes; None where it holds none."""
    if isinstance(result, list):
        return result if result and getattr(result[0], "ndim", 0) == 1 else None
    dimensions = getattr(result, "ndim", 0)
    if dimensions == 1 and len(result):
        return result.reshape(1, -1)
    return result if dimensions == 2 else None
