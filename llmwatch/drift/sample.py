"""Embeddings gathered to make a reference of: the first ones, or a fair sample of a period.

Source: Vitter 1985, ACM Transactions on Mathematical Software 11 (algorithm R).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmwatch.drift.intake import Mark
from llmwatch.drift.subspace import Floats


class Sample:
    """Up to *size* rows; of more, each has the same chance to be among them.

    Args:
        size: The most rows to keep; they take 4 bytes a number.
        seed: Makes the choice reproducible.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.offered = 0
        self.rows: list[Floats] = []
        self.ids: list[str] = []
        """Of the rows; empty strings where they have none."""
        self._random = np.random.default_rng(seed)
        self._sessions: set[str] = set()

    @property
    def full(self) -> bool:
        """True once no more rows are needed."""
        return len(self.rows) >= self.size

    def add(
        self,
        rows: Floats,
        sessions: Sequence[str | None] | None = None,
        marks: Sequence[Mark] | None = None,
    ) -> None:
        """Offer rows; of a session only the first one counts, among the first *size*."""
        for index, row in enumerate(rows):
            if sessions is not None and (session := sessions[index]):
                if session in self._sessions:
                    continue
                if len(self._sessions) < self.size:
                    self._sessions.add(session)
            self.offered += 1
            name = "" if marks is None else marks[index][1]
            if not self.full:
                self.rows.append(row.copy())
                self.ids.append(name)
            elif (place := int(self._random.integers(self.offered))) < self.size:
                self.rows[place], self.ids[place] = row.copy(), name

    def contents(self) -> tuple[Floats, list[str]]:
        """The rows kept, shape ``(n, d)``, and their ids, if any has one."""
        return np.stack(self.rows), self.ids if any(self.ids) else []
