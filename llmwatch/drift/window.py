"""The latest items of one key, in two panes: each time one is full, the last two are judged.

No item is kept. Of a session only the first item in a window counts: near-duplicates say the same
thing many times, and would be taken for many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import time
from typing import NamedTuple

import numpy as np

from llmwatch.drift.detector import Change, Detector
from llmwatch.drift.reference import Reference, sketch
from llmwatch.drift.sequential import ShiryaevRoberts
from llmwatch.drift.state import Block, Foreign, State
from llmwatch.drift.subspace import BLOCK, Floats
from llmwatch.drift.totals import Tally
from llmwatch.drift.verdict import Verdict, judge

MOST_JUDGED = 200
"""Verdicts that are remembered, for pictures."""


class Judged(NamedTuple):
    """A verdict, when it was made, and whether the alarm was raised then."""

    at: float
    """Unix time, in seconds."""
    verdict: Verdict
    alarm: bool


class Seen(NamedTuple):
    """What a picture shows of a window."""

    judged: list[Judged]
    places: list[Floats]
    state: State


class Window:
    """Two panes and what is made of them.

    Args:
        reference: What they are compared with.
        false_alarm: Of one verdict.
        least_effect: See `Detector`.
        tally: Where all residuals are added up.
    """

    def __init__(
        self, reference: Reference, false_alarm: float, least_effect: float, tally: Tally
    ) -> None:
        self.reference = reference
        self.pane_size = max(reference.window // 2, 1)
        self.detector = Detector(false_alarm, least_effect)
        self.sequential = ShiryaevRoberts(
            reference.counts, self.pane_size / false_alarm, both_sides=reference.subspace.scalar
        )
        self.early = False
        """True if the sequential detector fired in the latest pane, or in this one."""
        self.thinned = 0
        self.judged: deque[Judged] = deque(maxlen=MOST_JUDGED)
        self.places: deque[Floats] = deque(maxlen=reference.window // BLOCK + 1)
        """Where the latest items lie on the reference's main directions, for pictures."""
        self.previous: State | None = None
        self._tally = tally
        self.current = State.empty(reference)
        self._fired = False
        self._sessions: tuple[set[str], set[str]] = (set(), set())

    @property
    def verdict(self) -> Verdict | None:
        """The latest one; None: there has been none."""
        return self.judged[-1].verdict if self.judged else None

    def state(self) -> State:
        """What is in both panes now, as a state of its own."""
        empty = State.empty(self.reference)
        return (self.previous or empty).merge(self.current)

    def seen(self) -> Seen:
        """A copy for a picture."""
        return Seen([*self.judged], [*self.places], self.state())

    def foreign(self) -> list[Foreign]:
        """The most foreign items in both panes, the most foreign first."""
        found = [*(self.previous.foreign if self.previous else ()), *self.current.foreign]
        return sorted(found, reverse=True)[: State.MOST_FOREIGN]

    def absorb(self, other: Window) -> None:
        """Take over what another window has not yet judged."""
        self.current = self.current.merge(other.current)

    def take(self, block: Block, sessions: Sequence[str | None] | None) -> list[Change]:
        """Take in a block of items; what that changes.

        Args:
            block: The items, measured.
            sessions: Of each item, None: it belongs to none; or None for all of them.
        """
        changes: list[Change] = []
        start, size = 0, block.size
        while start < size:
            end = min(start + max(self.pane_size - self.current.count, 0), size)
            part = block if end - start == size else block[start:end]
            if sessions is not None:
                part = self._thinned(part, sessions[start:end])
            start = end
            self.current.add(part)
            self._tally.add(part.bins, part.residuals)
            if not self.reference.subspace.scalar:
                self.places.append(sketch(part.inside, part.residuals))
            if self.sequential.add(part.bins):
                self._fired = self.early = True
            if self.current.count >= self.pane_size and (change := self._turn()):
                changes.append(change)
        return changes

    def _thinned(self, block: Block, sessions: Sequence[str | None]) -> Block:
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
            verdict = judge(self.reference, self.state())
            change = self.detector.take(verdict)
            self.judged.append(Judged(time(), verdict, self.detector.alarm))
        self.previous, self.current = self.current, State.empty(self.reference)
        self._sessions = (self._sessions[1], set())
        self.early, self._fired = self._fired, False
        return change
