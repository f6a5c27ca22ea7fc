"""Judge the layers of watched models now and then, when metrics are collected."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING

from llmwatch._guard import Guard
from llmwatch.measure.changes import Changes
from llmwatch.measure.findings import find

if TYPE_CHECKING:
    from llmwatch.measure.findings import Finding
    from llmwatch.measure.health import Health
    from llmwatch.measure.layers import Layer
    from llmwatch.measure.roofline import Roof
    from llmwatch.sources.torch_layers.analysis import Analysis

EVERY = 10.0
"""Seconds at least between two judgements of one model."""

_JUDGE = Guard("layers.judge")


class Judge:
    """Follows the findings about one model.

    Args:
        analysis: What is known of it.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._changes = Changes()
        self._health: list[tuple[Layer, Health]] = []
        self._judged_at = -EVERY
        self._seen = 0
        self.roof: Roof | None = None
        """What the device can do, once a report has measured it: here would be the wrong moment."""

    @property
    def raised(self) -> tuple[Finding, ...]:
        """The findings that are raised."""
        return self._changes.raised

    def health(self) -> Iterator[tuple[Layer, Health]]:
        """The numbers of each layer, at the latest judgement."""
        yield from self._health

    def judge(self) -> tuple[list[Finding], list[Finding]]:
        """Judge anew, if it is time and there is something new.

        Waits for the device: to be called when metrics are collected.

        Returns:
            The findings that are raised by it, and those that are cleared.
        """
        analysis = self._analysis
        if monotonic() - self._judged_at < EVERY or analysis.taken == self._seen:
            return [], []
        self._judged_at, self._seen = monotonic(), analysis.taken
        with _JUDGE:
            portrait = analysis.portrait(self.roof)
            if analysis.numbers is not None:
                self._health = list(zip(analysis.numbers.layers, portrait.health, strict=False))
            return self._changes.take(find(portrait))
        return [], []
