"""Findings that come and go: raised once, cleared once, whatever flickers in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmwatch.measure.findings import Finding

TO_RAISE = 2
"""Times in a row that something is found before it is raised."""
TO_CLEAR = 3
"""Times in a row that it is not found before it is cleared."""

Key = tuple[str, str, str]


@dataclass
class _State:
    finding: Finding
    raised: bool = False
    found: int = 0
    missed: int = 0


class Changes:
    """Follows the findings of one model from one judgement to the next."""

    def __init__(self) -> None:
        self._states: dict[Key, _State] = {}

    @property
    def raised(self) -> tuple[Finding, ...]:
        """The findings that are raised, as they were last found."""
        return tuple(each.finding for each in list(self._states.values()) if each.raised)

    def take(self, findings: Iterable[Finding]) -> tuple[list[Finding], list[Finding]]:
        """Count one judgement.

        Args:
            findings: All that was found.

        Returns:
            The findings that are raised by it, and those that are cleared.
        """
        now = {each.key: each for each in findings}
        for key, finding in now.items():
            state = self._states.setdefault(key, _State(finding))
            state.finding, state.found, state.missed = finding, state.found + 1, 0
        for key, state in self._states.items():
            if key not in now:
                state.found, state.missed = 0, state.missed + 1
        return self._new(), self._gone()

    def _new(self) -> list[Finding]:
        new = [each for each in self._states.values() if not each.raised and each.found >= TO_RAISE]
        for each in new:
            each.raised = True
        return [each.finding for each in new]

    def _gone(self) -> list[Finding]:
        gone = {key: each for key, each in self._states.items() if each.missed >= TO_CLEAR}
        for key in gone:
            del self._states[key]
        return [each.finding for each in gone.values() if each.raised]
