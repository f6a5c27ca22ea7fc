"""Stands for a real model: random weights, a few thousand numbers, nothing to download.

Put `AutoModelForCausalLM.from_pretrained(…)` in its place.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def model(layers: int = 4, noise: float = 0.0) -> Any:
    """A language model that answers anything with nonsense; with noise, a little differently."""
    torch.manual_seed(0)
    dice = torch.Generator().manual_seed(1)
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        name_or_path=f"tiny-llama-{layers}",
    )
    made = LlamaForCausalLM(config).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
            parameter.data += noise * torch.randn(parameter.shape, generator=dice)
    return made


def prompt(*lengths: int) -> dict[str, torch.Tensor]:
    """Prompts of these lengths, as a tokenizer would give them: padded on the left."""
    longest = max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, longest - length :] = torch.randint(3, 200, (length,))
        mask[row, longest - length :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def show(attributes: Any, *names: str) -> None:
    """Print some attributes of a span, without their common prefix."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            print(f"  {name.removeprefix('llmwatch.').removeprefix('gen_ai.'):32} {_short(value)}")


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
