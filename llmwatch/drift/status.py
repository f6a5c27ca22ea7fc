"""What a monitor says about itself, for programs and, printed, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmwatch.drift.regions import MOST_IDS
from llmwatch.drift.state import Foreign
from llmwatch.drift.verdict import Verdict

Phase = Literal["learning", "calibrating", "watching", "failed"]


@dataclass(frozen=True)
class KeyStatus:
    """One key of a monitor."""

    key: str
    """Empty where items were added without a key."""
    seen: int
    """Items so far."""
    thinned: int
    """Items left out because their session had one in the window already."""
    filled: int
    """Items in the pane that is being filled."""
    alarm: bool
    early: bool
    """True if the sequential detector fired lately. It may be wrong more often than the alarm."""
    verdict: Verdict | None
    """Of the latest full window; None: there has been none."""
    foreign: tuple[Foreign, ...] = ()
    """The most foreign items of the window that can be found again, the most foreign first."""

    @property
    def foreign_traces(self) -> tuple[str, ...]:
        """Their trace ids."""
        return tuple(each.trace for each in self.foreign if each.trace)

    @property
    def foreign_ids(self) -> tuple[str, ...]:
        """The ids that they were added with, three at most: what to look at, or to annotate."""
        found = dict.fromkeys(each.id for each in self.foreign if each.id)
        return tuple(found)[:MOST_IDS]

    def __str__(self) -> str:
        name = self.key or "(all)"
        verdict = self.verdict
        if verdict is None:
            return f"  {name}: {self.seen} seen, no full window yet"
        word = "DRIFT" if self.alarm else "ok"
        early = ", early warning" if self.early else ""
        return (
            f"  {name}: {word}{early}, p = {verdict.p_value:.2g}, effect {verdict.effect:.1%}, "
            f"foreign {verdict.foreign:.1%}, centroid {verdict.centroid:.3f}, "
            f"window {verdict.size}, dependence {verdict.dependence:.1f}, {self.seen} seen"
        )


@dataclass(frozen=True)
class Status:
    """A monitor at one moment."""

    name: str
    model: str
    phase: Phase
    learned: int
    """Embeddings gathered for a reference so far."""
    wanted: int
    """Embeddings wanted for one; 0 where it was given."""
    reference: str
    """Hash; empty while there is none."""
    reference_size: int
    reference_age: float | None
    """Seconds."""
    keys: tuple[KeyStatus, ...]
    seen: Mapping[str, int]
    """Embeddings so far by key, those that a reference was learned from included."""
    invalid: Mapping[str, int]
    """Embeddings that were dropped, by reason: nan, inf, zero, dimension, unreadable,
    model (watched calls of another one), overflow (they returned more than the queue takes)."""
    unwatched: int
    """Embeddings that came while the reference was being calibrated."""
    problem: str = ""
    """Why the phase is ``failed``."""

    @property
    def alarm(self) -> bool:
        """True if any key's alarm is raised."""
        return any(each.alarm for each in self.keys)

    def __str__(self) -> str:
        lines = [f"drift monitor {self.name!r}: {self._phase()}", *map(str, self.keys)]
        if self.invalid:
            lines.append(f"  invalid: {', '.join(f'{k} {n}' for k, n in self.invalid.items())}")
        return "\n".join(lines)

    def _phase(self) -> str:
        if self.phase == "learning":
            return f"learning, {self.learned} of {self.wanted} embeddings"
        if self.phase == "failed":
            return f"failed: {self.problem}"
        if self.phase == "calibrating":
            return "calibrating"
        return f"watching, reference {self.reference} of {self.reference_size} embeddings"
