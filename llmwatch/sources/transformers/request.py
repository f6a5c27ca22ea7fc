"""Read what a generation was asked for: an allow-list of its arguments and of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch import semconv
from llmwatch import semconv_models as names

_POSITIONS = ("inputs", "generation_config", "logits_processor", "stopping_criteria")
"""The first parameters of ``generate``, in its order."""

STOPPING_CRITERIA = _POSITIONS.index("stopping_criteria")

_SAMPLING = (
    (semconv.REQUEST_TEMPERATURE, "temperature"),
    (semconv.REQUEST_TOP_P, "top_p"),
    (semconv.REQUEST_TOP_K, "top_k"),
    (names.GENERATION_MIN_P, "min_p"),
)
_ALWAYS = (
    (names.GENERATION_MAX_TIME, "max_time"),
    (names.GENERATION_PREFILL_CHUNK, "prefill_chunk_size"),
)
_NOT_ONE = (
    (semconv.REQUEST_CHOICE_COUNT, "num_return_sequences"),
    (names.GENERATION_BEAMS, "num_beams"),
    (names.GENERATION_REPETITION_PENALTY, "repetition_penalty"),
)


class Arguments:
    """The arguments of one call of ``generate``, by name.

    Args:
        model: Whose ``generate`` is called.
        args: Those given by position.
        kwargs: Those given by name.
    """

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._args, self._kwargs = args, kwargs
        self._textual = getattr(model, "main_input_name", "input_ids") == "input_ids"

    def get(self, name: str) -> Any:
        """An argument; None where it was not given."""
        if name in _POSITIONS and (place := _POSITIONS.index(name)) < len(self._args):
            return self._args[place]
        return self._kwargs.get(name)

    @property
    def prompt(self) -> Any:
        """Token ids, or else embeddings, of the prompts; None where there are neither."""
        taken = ("input_ids", "inputs", "inputs_embeds") if self._textual else ("input_ids",)
        for name in taken:
            if (found := self.get(name)) is not None and hasattr(found, "shape"):
                return found
        return None

    @property
    def mask(self) -> Any:
        """The attention mask, where it is one over tokens."""
        mask, prompt = self.get("attention_mask"), self.prompt
        flat = prompt is not None and len(getattr(mask, "shape", ())) == 2
        return mask if flat else None

    @property
    def custom(self) -> bool:
        """Whether the loop is somebody else's."""
        return self.get("custom_generate") is not None

    @property
    def paged(self) -> bool:
        """Whether ``generate`` hands the work to continuous batching, which has no such loop."""
        config = self.get("generation_config")
        kinds = (self.get("cache_implementation"), getattr(config, "cache_implementation", None))
        return "paged" in kinds


def drafter_of(config: Any, arguments: Arguments) -> str | None:
    """Who proposes tokens in a speculative mode; None where nobody does."""
    if getattr(config, "assistant_early_exit", None) is not None:
        return "early_exit"
    if getattr(config, "prompt_lookup_num_tokens", None) is not None:
        return "prompt_lookup"
    if getattr(config, "use_mtp", None):
        return "mtp"
    return "model" if arguments.get("assistant_model") is not None else None


def mode_of(config: Any, arguments: Arguments) -> str:
    """How tokens are chosen, as transformers names it."""
    if arguments.custom:
        return "custom"
    beams = (getattr(config, "num_beams", None) or 1) > 1
    if beams and (getattr(config, "num_beam_groups", None) or 1) > 1:
        return "group_beam_search"
    if beams and (getattr(config, "constraints", None) or getattr(config, "force_words_ids", None)):
        return "constrained_beam_search"
    if beams:
        return "beam_sample" if config.do_sample else "beam_search"
    if drafter_of(config, arguments) is not None:
        return "assisted_generation"
    return "sample" if config.do_sample else "greedy_search"


def read_parameters(config: Any, arguments: Arguments, start: int | None) -> dict[str, Any]:
    """The decoding parameters that are in force, by full attribute name.

    Args:
        config: The ``GenerationConfig`` that transformers has completed for this call.
        arguments: Those of the call.
        start: Length of the sequences before their first new token, if known.
    """
    mode = mode_of(config, arguments)
    found: dict[str, Any] = {names.GENERATION_MODE: mode}
    if mode == "assisted_generation":
        found[names.GENERATION_DRAFTER] = drafter_of(config, arguments)
    chosen = _ALWAYS + (_SAMPLING if getattr(config, "do_sample", False) else ())
    for key, name in chosen:
        if isinstance(value := getattr(config, name, None), (int, float)):
            found[key] = value
    for key, name in _NOT_ONE:
        if isinstance(value := getattr(config, name, None), (int, float)) and value != 1:
            found[key] = value
    if (most := _most_tokens(config, start)) is not None:
        found[semconv.REQUEST_MAX_TOKENS] = most
    if stops := _stop_strings(config):
        found[semconv.REQUEST_STOP_SEQUENCES] = stops
    return found


def _most_tokens(config: Any, start: int | None) -> int | None:
    most = getattr(config, "max_new_tokens", None)
    if most is None and start is not None and isinstance(config.max_length, int):
        most = config.max_length - start
    return most if isinstance(most, int) else None


def _stop_strings(config: Any) -> list[str]:
    found = getattr(config, "stop_strings", None) or []
    texts = [found] if isinstance(found, str) else list(found)
    return [text for text in texts if isinstance(text, str)]


def ends_of(config: Any) -> frozenset[int]:
    """The ids that end a sequence, without asking a device for them."""
    found: Any = getattr(config, "eos_token_id", None)
    if hasattr(found, "tolist"):
        found = found.tolist() if found.device.type == "cpu" else None
    if isinstance(found, int):
        found = [found]
    return frozenset(each for each in found or () if isinstance(each, int))
