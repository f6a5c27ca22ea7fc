"""What a model's activations were once, to compare with what they are now: layer by layer.

numpy alone. A baseline holds a mean and a variance for each feature of each layer, and no
activation. It serves questions like: which layers did this fine-tuning change, and where in the
model do these inputs begin to look new?
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwatch.errors import ConfigError

SCHEMA = 1
LEAST = 2
"""Items without which there is no variance."""

Floats = NDArray[np.float64]


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of vectors (Chan, Golub & LeVeque 1983)."""

    count: int = 0
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    squares: Floats = field(default_factory=lambda: np.zeros(0))

    def add(self, rows: Floats) -> None:
        """Take in vectors, shape ``(n, d)``; those with a NaN or an infinity are left out."""
        rows = rows[np.isfinite(rows).all(1)].astype(np.float64)
        if not len(rows) or (self.count and rows.shape[1] != len(self.mean)):
            return
        mean = rows.mean(0)
        squares = ((rows - mean) ** 2).sum(0)
        if not self.count:
            self.count, self.mean, self.squares = len(rows), mean, squares
            return
        both = self.count + len(rows)
        moved = mean - self.mean
        self.squares = self.squares + squares + moved**2 * (self.count * len(rows) / both)
        self.mean = self.mean + moved * (len(rows) / both)
        self.count = both

    @property
    def variance(self) -> Floats:
        """Of each feature."""
        return self.squares / max(self.count - 1, 1)


@dataclass(frozen=True)
class LayerShift:
    """How one layer's activations differ from those of a baseline."""

    layer: str
    shift: float
    """Distance of the means over the standard deviations of the baseline: root mean square over
    features, less what chance makes of so few items. 0.5 is much."""
    cosine: float
    """Between the two means."""
    items: int
    baseline_items: int


class Baseline:
    """Moments of the activations of some layers.

    Args:
        layers: By path.
    """

    def __init__(self, layers: Mapping[str, Moments]) -> None:
        self.layers = {name: each for name, each in layers.items() if each.count >= LEAST}

    def compare(self, now: Baseline) -> tuple[LayerShift, ...]:
        """How *now* differs, for the layers that both have, in the order of this one."""
        return tuple(
            _shift(name, mine, now.layers[name])
            for name, mine in self.layers.items()
            if name in now.layers and len(now.layers[name].mean) == len(mine.mean)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to an ``.npz`` file, without pickle.

        Raises:
            ConfigError: If there is nothing in it yet.
            OSError: If the file cannot be written.
        """
        if not self.layers:
            raise ConfigError(
                "the baseline is empty: let the watched model run on two inputs at least, with "
                "numbers=True, before you save it."
            )
        arrays: dict[str, Any] = {
            "schema": np.array(SCHEMA),
            "layers": np.array(list(self.layers)),
            "counts": np.array([each.count for each in self.layers.values()]),
        }
        for index, each in enumerate(self.layers.values()):
            arrays |= {f"mean_{index}": each.mean, f"squares_{index}": each.squares}
        with open(path, "wb") as file:  # noqa: PTH123 - savez would add its suffix to a path
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Baseline:
        """Read one that was saved.

        Raises:
            ConfigError: If the file is none.
            OSError: If it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["schema"]) != SCHEMA:
                    raise ValueError(f"schema {file['schema']}")
                return cls(
                    {
                        str(name): Moments(
                            int(count), file[f"mean_{index}"], file[f"squares_{index}"]
                        )
                        for index, (name, count) in enumerate(
                            zip(file["layers"], file["counts"], strict=True)
                        )
                    }
                )
        except (ValueError, KeyError, EOFError) as error:
            raise ConfigError(
                f"{os.fspath(path)!r} is no baseline of activations ({error}): save one with "
                "watcher.baseline().save(path)."
            ) from None


def _shift(name: str, old: Moments, new: Moments) -> LayerShift:
    spread = old.variance + new.variance
    spread = np.maximum(spread / 2, np.finfo(np.float64).tiny)
    moved = (new.mean - old.mean) ** 2 / spread
    chance = 1 / old.count + 1 / new.count
    lengths = float(np.linalg.norm(old.mean) * np.linalg.norm(new.mean))
    return LayerShift(
        name,
        float(np.sqrt(max(moved.mean() - chance, 0.0))),
        float(old.mean @ new.mean) / lengths if lengths else 0.0,
        new.count,
        old.count,
    )
