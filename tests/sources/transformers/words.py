"""A tokenizer of a few words, and models and pipelines that fit it."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    pipeline,
)

TEXTS = [
    "the ferry waits by the quay",
    "rain fell on lamps along the water all evening long",
    "a person asks and the model answers with words that mean little",
]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }} {{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant {% endif %}"
)
CHAT = [
    {"role": "system", "content": "the model answers"},
    {"role": "user", "content": "the ferry waits"},
]


def tokenizer() -> Any:
    """A new one: pipelines change the side on which it pads."""
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    lines = [*TEXTS, "system user assistant"]
    words.train_from_iterator(lines, trainers.WordLevelTrainer(special_tokens=SPECIAL))
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )
    made.chat_template = TEMPLATE
    return made


def _drawn(kind: Any, config: Any) -> Any:
    torch.manual_seed(7)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.35)  # wide: no two scores are nearly equal
    return model


@cache
def speaker() -> Any:
    """A model that says as much as it may: nothing ends it."""
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=2,
        eos_token_id=None,
        pad_token_id=0,
    )
    return _drawn(LlamaForCausalLM, config)


def _bert(**more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        **more,
    )


def _pipeline(task: str, model: Any, **more: Any) -> Any:
    return pipeline(task, model=model, device="cpu", **more)


@cache
def writer() -> Any:
    """Text generation, 5 tokens, greedily."""
    return _pipeline(
        "text-generation", speaker(), tokenizer=tokenizer(), do_sample=False, max_new_tokens=5
    )


@cache
def judge() -> Any:
    """Text classification."""
    model = _drawn(BertForSequenceClassification, _bert())
    return _pipeline("text-classification", model, tokenizer=tokenizer())


@cache
def embedder() -> Any:
    """Hidden states of a text."""
    return _pipeline("feature-extraction", _drawn(BertModel, _bert()), tokenizer=tokenizer())


@cache
def chooser() -> Any:
    """Zero-shot classification: one input is several chunks for the model."""
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = _bert(id2label=labels, label2id={name: key for key, name in labels.items()})
    model = _drawn(BertForSequenceClassification, config)
    return _pipeline("zero-shot-classification", model, tokenizer=tokenizer())


@cache
def listener() -> Any:
    """Speech recognition without a decoder: nothing generates."""
    letters = {
        token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *"|ab"])
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.json")
        path.write_text(json.dumps(letters))
        letters_of = Wav2Vec2CTCTokenizer(str(path))
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    return _pipeline(
        "automatic-speech-recognition",
        _drawn(Wav2Vec2ForCTC, config),
        tokenizer=letters_of,
        feature_extractor=Wav2Vec2FeatureExtractor(),
    )
