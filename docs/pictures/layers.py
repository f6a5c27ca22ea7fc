"""Draw the picture of a model's layers: ``python docs/pictures/layers.py``.

Needs the extras ``transformers`` and ``plots``, and the model of the demo. Nothing is staged: the
times are those of the machine that it runs on.
"""

from __future__ import annotations

from pathlib import Path

import torch

import llmwatch
from llmwatch.demo import smollm2

PICTURE = Path(__file__).with_name("layers.png")
PROSE = Path(__file__).parents[2] / "tests/integrations/prose.txt"

if __name__ == "__main__":
    model, tokenizer = smollm2.load()
    given = tokenizer(PROSE.read_text(), return_tensors="pt")
    with torch.inference_mode(), llmwatch.watch_layers(model, every=1, numbers=True) as watcher:
        for _ in range(4):
            model.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
        watcher.report().plot(PICTURE)
