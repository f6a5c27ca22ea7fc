"""Make alarms of verdicts: raised once, cleared once, whatever flickers in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmwatch.drift.verdict import Verdict

Change = Literal["raised", "cleared"]

FAILING_TO_RAISE = 2
CLEAN_TO_CLEAR = 3


@dataclass
class Detector:
    """Hysteresis over the verdicts of one stream.

    An alarm is raised by two failing verdicts in a row and cleared by three clean ones. Successive
    windows share a pane, so two verdicts are not independent: the rate of raised alarms is measured
    in the docs, not derived.
    """

    false_alarm: float
    """A verdict fails at a p-value up to this one …"""
    least_effect: float
    """… if its effect is at least this large, too."""
    alarm: bool = False
    failing: int = 0
    clean: int = 0

    def take(self, verdict: Verdict) -> Change | None:
        """Count one verdict; what it changes, if anything."""
        if verdict.p_value <= self.false_alarm and verdict.effect >= self.least_effect:
            self.failing, self.clean = self.failing + 1, 0
        else:
            self.failing, self.clean = 0, self.clean + 1
        if not self.alarm and self.failing >= FAILING_TO_RAISE:
            self.alarm = True
            return "raised"
        if self.alarm and self.clean >= CLEAN_TO_CLEAR:
            self.alarm = False
            return "cleared"
        return None
