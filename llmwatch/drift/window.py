"""The latest items of one key, in two panes: each time one is full, the last two are judged.

No item is kept. Of a session only the first item in a window counts: near-duplicates say the same
thing many times, and would be taken for many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.detector import Change, Detector
from llmwatch.drift.reference import Reference
from llmwatch.drift.sequential import ShiryaevRoberts
from llmwatch.drift.state import Block, State
from llmwatch.drift.verdict import Verdict, judge


class Window:
    """Two panes and what is made of them.

    Args:
        reference: What they are compared with.
        false_alarm: Of one verdict.
        least_effect: See `Detector`.
    """

    def __init__(self, reference: Reference, false_alarm: float, least_effect: float) -> None:
        self.reference = reference
        self.pane_size = max(reference.window // 2, 1)
        self.detector = Detector(false_alarm, least_effect)
        self.sequential = ShiryaevRoberts(reference.counts, self.pane_size / false_alarm)
        self.early = False
        """True if the sequential detector fired in the latest pane, or in this one."""
        self.thinned = 0
        self.verdict: Verdict | None = None
        self.previous: State | None = None
        self.done = np.zeros(len(reference.counts), np.int64)
        """Residuals in each bin, of all panes that were full."""
        self.current = State.empty(reference)
        self._fired = False
        self._sessions: tuple[set[str], set[str]] = (set(), set())

    def state(self) -> State:
        """What is in both panes now, as a state of its own."""
        empty = State.empty(self.reference)
        return (self.previous or empty).merge(self.current)

    def foreign_traces(self) -> tuple[str, ...]:
        """Trace ids of the most foreign items in both panes, the most foreign first."""
        found = [*(self.previous.foreign if self.previous else ()), *self.current.foreign]
        return tuple(trace for _, trace in sorted(found, reverse=True)[: State.MOST_FOREIGN])

    def totals(self) -> NDArray[np.int64]:
        """Residuals in each bin since the beginning."""
        return self.done + self.current.counts

    def absorb(self, other: Window) -> None:
        """Take over what another window has not yet judged."""
        self.current = self.current.merge(other.current)

    def take(self, block: Block, sessions: Sequence[str | None]) -> list[Change]:
        """Take in a block of items; what that changes.

        Args:
            block: The items, measured.
            sessions: Of each item; None: it belongs to none.
        """
        changes: list[Change] = []
        start = 0
        while start < block.size:
            room = max(self.pane_size - self.current.count, 0)
            end = min(start + room, block.size)
            part = self._thinned(block[start:end], sessions[start:end])
            self.current.add(part)
            if self.sequential.add(part.bins):
                self._fired = self.early = True
            start = end
            if self.current.count >= self.pane_size and (change := self._turn()):
                changes.append(change)
        return changes

    def _thinned(self, block: Block, sessions: Sequence[str | None]) -> Block:
        if not any(sessions):
            return block
        old, new = self._sessions
        kept = []
        for index, session in enumerate(sessions):
            if session:
                if session in new or session in old:
                    continue
                new.add(session)
            kept.append(index)
        self.thinned += block.size - len(kept)
        return block[np.array(kept, np.int64)]

    def _turn(self) -> Change | None:
        """A pane is full: judge the window, and begin the next pane."""
        change = None
        if self.previous is not None:
            self.verdict = judge(self.reference, self.state())
            change = self.detector.take(self.verdict)
        self.done += self.current.counts
        self.previous, self.current = self.current, State.empty(self.reference)
        self._sessions = (self._sessions[1], set())
        self.early, self._fired = self._fired, False
        return change
