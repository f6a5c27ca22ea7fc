"""What is known of a model's layers, as findings, as a table, as a picture."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from llmwatch._optional import require
from llmwatch.measure.findings import Finding, find
from llmwatch.measure.portrait import Portrait
from llmwatch.sources.torch_layers.roofline import roof_of

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.watcher import LayerWatcher


def report(watcher: LayerWatcher) -> Report:
    """See `LayerWatcher.report`."""
    analysis = watcher.analysis
    if analysis is None:
        return Report(Portrait(watcher.name))
    samples = watcher.samples
    roof = None
    if samples and samples[-1].dtype is not None and analysis.works:
        dtype = getattr(torch, samples[-1].dtype)
        roof = roof_of(samples[-1].device, dtype, torch.get_num_threads())
        analysis.judge.roof = roof
    return Report(analysis.portrait(roof))


@dataclass(frozen=True)
class Report:
    """What is known of a model's layers at one moment; print it."""

    portrait: Portrait

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is worth a look, the gravest first."""
        return find(self.portrait)

    @property
    def table(self) -> Any:
        """The layers by phase: a `rich.table.Table`, or where rich is not installed, text."""
        from llmwatch.sources.torch_layers import tables

        return tables.of(self.portrait)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON: what is not finite or not known is None."""
        return {
            "portrait": _plain(asdict(self.portrait)),
            "findings": [_plain(each.to_dict()) for each in self.findings],
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw a heat map of layers and phases, and their places under the roofline.

        Args:
            path: The file; its suffix says what kind: ``.svg``, ``.png``, ``.pdf``.

        Raises:
            MissingExtraError: If matplotlib is not installed.
            ConfigError: If nothing was sampled yet.
        """
        require("matplotlib", extra="plots")
        from llmwatch.sources.torch_layers import pictures

        pictures.draw(self.portrait, path)

    def __str__(self) -> str:
        from llmwatch.sources.torch_layers import tables

        return tables.text(self.portrait, self.findings)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value
