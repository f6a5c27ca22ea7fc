"""What a pipeline does, and what its inputs hold. Everything is read by duck type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch import semconv_tasks as names
from llmwatch._guard import Foreign
from llmwatch.sources.transformers.models import describe

_NAMES = {
    "any-to-any": "generate_content",
    "automatic-speech-recognition": "transcription",
    "document-question-answering": "generate_content",
    "feature-extraction": "embeddings",
    "image-feature-extraction": "embeddings",
    "image-text-to-text": "generate_content",
    "image-to-text": "generate_content",
    "text-to-audio": "speech_generation",
    "text-to-speech": "speech_generation",
}
"""Tasks that the conventions, or other sources of llmwatch, have a name for."""
_TENSORS = ("input_ids", "attention_mask", "input_values", "input_features", "pixel_values")


def operation_name(pipeline: Any, inputs: Any) -> str:
    """``gen_ai.operation.name`` of what a pipeline does with *inputs*."""
    task = pipeline.task or ""
    if is_chat(inputs):
        return "chat"
    if task in _NAMES:
        return _NAMES[task]
    return "text_completion" if generates(pipeline) else task.replace("-", "_") or "inference"


def generates(pipeline: Any) -> bool:
    """Whether its model answers by ``generate``: that is then the operation."""
    with Foreign():
        if not pipeline.model.can_generate():
            return False
        # A pipeline of the user's own may call it, and need not say so.
        own = not type(pipeline).__module__.startswith("transformers.pipelines.")
        return own or bool(getattr(pipeline, "_pipeline_calls_generate", False))
    return False


def is_chat(inputs: Any) -> bool:
    """Whether inputs are messages: as users give them, or as the library wraps them."""
    first = inputs[0] if isinstance(inputs, (list, tuple)) and inputs else inputs
    if hasattr(inputs, "messages") or hasattr(first, "messages"):
        return True
    if isinstance(first, (list, tuple)) and first:
        first = first[0]
    return isinstance(first, Mapping) and "role" in first


def count(inputs: Any) -> int:
    """How many inputs one call of a pipeline was given."""
    return (
        len(inputs) if isinstance(inputs, (list, tuple)) and not hasattr(inputs, "messages") else 1
    )


def attributes_of(pipeline: Any) -> dict[str, Any]:
    """Attributes of the pipeline and its model, by full name."""
    found = describe(pipeline.model)
    if pipeline.task:
        found[names.TASK] = pipeline.task
    return found


def batch_of(tensors: Any) -> int | None:
    """How many inputs a batch holds; None where that cannot be seen."""
    if not isinstance(tensors, Mapping):
        return None
    for name in _TENSORS:
        if shape := getattr(tensors.get(name), "shape", None):
            return int(shape[0])
    return None


def tokens_of(tensors: Any) -> int | None:
    """Tokens of a batch without padding, if they are on the CPU: nothing waits for a device."""
    mask = mask_of(tensors)
    if mask is None or mask.device.type != "cpu" or "input_ids" not in tensors:
        return None
    return int(mask.sum())


def mask_of(tensors: Any) -> Any:
    """The attention mask of a batch of texts; None where there is none."""
    mask = tensors.get("attention_mask") if isinstance(tensors, Mapping) else None
    return mask if getattr(mask, "ndim", 0) == 2 else None
