"""Real embeddings, and references fitted on them once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from llmwatch.drift.reference import Reference, fit_reference

WINDOW = 200


class Domains(NamedTuple):
    wordnet: NDArray[np.float32]
    lexfile: NDArray[np.str_]
    pydoc: NDArray[np.float32]
    bible: NDArray[np.float32]


@pytest.fixture(scope="session")
def domains() -> Domains:
    """Real sentence embeddings by where their texts come from, in a random but fixed order."""
    with np.load(Path(__file__).parent / "embeddings.npz") as file:
        rows, domain, lexfile = file["x"].astype(np.float32), file["domain"], file["lexfile"]
    order = np.random.default_rng(0).permutation(len(rows))
    rows, domain, lexfile = rows[order], domain[order], lexfile[order]
    return Domains(
        rows[domain == "wordnet"],
        lexfile[domain == "wordnet"],
        rows[domain == "pydoc"],
        rows[domain == "bible"],
    )


@pytest.fixture(scope="session")
def reference(domains: Domains) -> Reference:
    """Of 1000 glosses of WordNet, for windows of 200."""
    return fit_reference(domains.wordnet[:1000], window=WINDOW, model="minilm")
