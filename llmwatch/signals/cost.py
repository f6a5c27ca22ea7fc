"""What an operation cost in US dollars, by the price list of ``genai-prices`` (extra ``cost``).

None where the model, its price, or a count that the price needs is unknown; 0.0 only for a model
that is listed as free. Tokens only: what a server charges besides (web searches, storage) is not
in the usage it reports.

Loading the list takes 60 ms, so that it is done beside the first call, while that waits for its
server; a first call that is faster than that waits for the rest at its end, once in a process.
(With openai 2 it has to be done before that call goes on.)
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from llmwatch._guard import Guard
from llmwatch.measure.record import Series, Usage

if TYPE_CHECKING:
    from llmwatch.signals.prices import Prices

LONGEST_WAIT: Final = 2.0
"""Seconds that the end of a first call waits for the list, should the machine be that slow."""

_PRICE = Guard("cost.price")
_LOAD = Guard("cost.load")


def price(series: Series, usage: Usage, tier: str | None = None) -> float | None:
    """Cost of one operation, or None where it cannot be known.

    Args:
        series: Says which provider and model.
        usage: What was used; an estimate has no cost.
        tier: Service tier that the server says it used.

    Cost: about 4 µs once the model is known, 0.3 ms for the first call of a model.
    """
    if usage.estimated or usage.input_tokens is None or _state.missing:
        return None
    with _PRICE:
        prices = _state.prices or _state.wait()
        return None if prices is None else prices.price(series, usage, tier)
    return None


def prepare() -> None:
    """Begin to load the price list on a thread of its own, unless that was done before.

    To be called when a call begins: by then its client is imported, and no two threads import the
    same packages. Cost: 0.1 µs when there is nothing to do.
    """
    if not _state.begun:
        _state.begin()


class _State:
    """Whether the list is loaded; the only thing here that changes."""

    def __init__(self) -> None:
        self.begun = False
        self.missing = False
        self.prices: Prices | None = None
        self._done = Event()
        self._lock = Lock()

    def begin(self) -> None:
        with self._lock:
            if not self.begun:
                self._begin()
                self.begun = True

    def _begin(self) -> None:
        with _LOAD:
            if find_spec("genai_prices") is not None:
                # A child forked while we import would find the import lock held for ever.
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(before=self.wait)
                if "openai" in sys.modules and "httpx2" not in sys.modules:
                    # The list imports httpx2. At each request openai 2 uses what it finds of that
                    # in `sys.modules`, half imported or not; so none may go on meanwhile.
                    self._load()
                else:
                    Thread(target=self._load, name="llmwatch-prices", daemon=True).start()
                return
        self._settle(None)  # not installed, or no thread to be had: at the interpreter's end

    def _load(self) -> None:
        prices = None
        try:
            with _LOAD:
                from genai_prices.data_snapshot import get_snapshot

                from llmwatch.signals.prices import Prices

                loaded = Prices(get_snapshot)
                # The first question compiles the list's patterns: better here than in a call.
                loaded.price(Series("chat", "openai", "gpt-4o", None, "localhost"), Usage(0), None)
                prices = loaded
        finally:
            self._settle(prices)

    def _settle(self, prices: Prices | None) -> None:
        self.prices = prices
        self.missing = prices is None
        self._done.set()

    def wait(self) -> Prices | None:
        """The loaded list; waits for it where it is not there yet."""
        if not self.begun:
            self.begin()
        self._done.wait(LONGEST_WAIT)
        return self.prices


_state = _State()
