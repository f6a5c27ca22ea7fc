"""Tiny models with random weights, one of each kind, made from their configurations."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

VOCABULARY = 99
BEGIN, END, PADDING = 1, 2, 0
_IDS = {
    "vocab_size": VOCABULARY,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
    "pad_token_id": PADDING,
}
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def _made(kind: Any, config: Any) -> Any:
    torch.manual_seed(7)
    # A wider draw than usual: near-equal scores would make outputs hang on rounding.
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.35)
    return model


@cache
def gpt2() -> Any:
    return _made(GPT2LMHeadModel, GPT2Config(n_embd=32, n_layer=2, n_head=2, **_IDS))


@cache
def small_gpt2() -> Any:
    """An assistant of `gpt2`."""
    return _made(GPT2LMHeadModel, GPT2Config(n_embd=16, n_layer=1, n_head=2, **_IDS))


@cache
def llama() -> Any:
    return _made(LlamaForCausalLM, LlamaConfig(**_SHAPE, **_IDS))


@cache
def qwen() -> Any:
    return _made(Qwen2ForCausalLM, Qwen2Config(**_SHAPE, **_IDS))


@cache
def t5() -> Any:
    config = T5Config(
        d_model=32,
        d_ff=64,
        d_kv=16,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=PADDING,
        **_IDS,
    )
    return _made(T5ForConditionalGeneration, config)


@cache
def whisper() -> Any:
    config = WhisperConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=64,
        decoder_start_token_id=BEGIN,
        **_IDS,
    )
    return _made(WhisperForConditionalGeneration, config)


IMAGE = 98
"""The token in whose place a picture goes."""


@cache
def llava() -> Any:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_SHAPE, **_IDS),
        image_token_id=IMAGE,
        image_seq_length=4,
    )
    return _made(LlavaForConditionalGeneration, config)


@cache
def lora() -> Any:
    """Qwen with an adapter by PEFT."""
    from peft import LoraConfig, get_peft_model

    base = _made(Qwen2ForCausalLM, Qwen2Config(**_SHAPE, **_IDS))
    return get_peft_model(base, LoraConfig(target_modules=["q_proj"], r=2, task_type="CAUSAL_LM"))


def prompts(rows: int = 1, length: int = 9, seed: int = 3) -> torch.Tensor:
    """Token ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY - 1, (rows, length), generator=generator)


def padded(rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    """Prompts of different lengths, padded on the left."""
    ids = prompts(rows, length)
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, :row] = 0
        ids[row, :row] = PADDING
    return {"input_ids": ids, "attention_mask": mask}
