"""Count the tokens of a prompt as the model sees them: what the attention mask lets through."""

from __future__ import annotations

from typing import Any

from llmwatch._guard import Foreign
from llmwatch.sources.transformers.cache import cache_in
from llmwatch.sources.transformers.request import Arguments, ends_of


def count(arguments: Arguments, config: Any, *, decoder_only: bool) -> Any:
    """Tokens of all prompts together: a number, or a tensor of one, which nobody waits for.

    None where the model is not given tokens, or nothing at all.
    """
    prompt, mask = arguments.prompt, arguments.mask
    if prompt is None:
        return None
    if mask is not None:
        return mask.sum()
    # As transformers infers a mask: from the padding, unless that also ends sequences.
    padding = getattr(config, "pad_token_id", None)
    inferred = decoder_only and len(prompt.shape) == 2 and isinstance(padding, int)
    if inferred and padding not in ends_of(config):
        return (prompt != padding).sum()
    return prompt.shape[0] * (prompt.shape[1] if len(prompt.shape) > 1 else 1)


def cached(arguments: Arguments) -> int | None:
    """How many tokens of each prompt a cache from before holds; None without one."""
    cache = cache_in(arguments.get)
    with Foreign():
        length = cache.get_seq_length() if cache is not None else None
        return length if isinstance(length, int) and length else None
    return None
