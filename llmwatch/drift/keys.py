"""The windows of a monitor's keys: as many as were used last, and one for the rest."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

from llmwatch.drift.reference import Reference
from llmwatch.drift.window import Window

MOST_KEYS = 64
OTHER = "_other"
"""The key that takes what is left of keys that had to make room."""


class Keys:
    """Windows by key. The caller holds a lock.

    Args:
        make: Makes the window of a new key.
    """

    def __init__(self, make: Callable[[Reference], Window]) -> None:
        self._make = make
        self.windows: OrderedDict[str, Window] = OrderedDict()
        self.seen: Counter[str] = Counter()
        """Embeddings so far."""

    def count(self, key: str, many: int) -> None:
        """Count embeddings that are not compared with anything yet."""
        self.seen[key if key in self.seen or len(self.seen) < MOST_KEYS else OTHER] += many

    def window(self, key: str, reference: Reference) -> Window:
        """The window of a key, which becomes the one that was used last."""
        window = self.windows.get(key)
        if window is None:
            own = [each for each in self.windows if each not in ("", OTHER)]
            if key and len(own) >= MOST_KEYS:
                # The one longest unused; an alarm that was raised would never be cleared.
                quiet = (each for each in own if not self.windows[each].detector.alarm)
                self._make_room(next(quiet, own[0]), reference)
            self._forget()
            self.windows[key] = window = self._make(reference)
        self.windows.move_to_end(key)
        return window

    def _forget(self) -> None:
        """Add to `OTHER` what was seen of keys whose windows belonged to another reference."""
        if len(self.seen) > MOST_KEYS:
            for key in [each for each in self.seen if each and each not in self.windows]:
                if key != OTHER:
                    self.seen[OTHER] += self.seen.pop(key)

    def clear(self) -> None:
        """Forget all windows: they belonged to another reference."""
        self.windows.clear()

    def _make_room(self, oldest: str, reference: Reference) -> None:
        """Give the unfinished pane of a key to `OTHER`."""
        gone = self.windows.pop(oldest)
        self.seen[OTHER] += self.seen.pop(oldest, 0)
        other = self.windows.get(OTHER)
        if other is None:
            self.windows[OTHER] = other = self._make(reference)
        other.absorb(gone)
