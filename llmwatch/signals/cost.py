"""What an operation cost in US dollars, by the price list of ``genai-prices`` (extra ``cost``).

None where the model, its price, or a count that the price needs is unknown; 0.0 only for a model
that is listed as free. Tokens only: what a server charges besides (web searches, storage) is not
in the usage it reports.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from llmwatch._guard import Guard
from llmwatch.measure.record import Series, Usage

if TYPE_CHECKING:
    from llmwatch.signals.prices import Prices

_PRICE = Guard("cost.price")
_LOAD = Guard("cost.load")

_prices: Prices | None = None


def price(series: Series, usage: Usage, tier: str | None = None) -> float | None:
    """Cost of one operation, or None where it cannot be known.

    Args:
        series: Says which provider and model.
        usage: What was used; an estimate has no cost.
        tier: Service tier that the server says it used.

    Cost: about 4 µs once the model is known, 0.3 ms for the first call of a model.
    """
    if _prices is None or usage.estimated or usage.input_tokens is None:
        return None
    with _PRICE:
        return _prices.price(series, usage, tier)
    return None


def load() -> None:
    """Load the price list, where the extra ``cost`` is installed, once in a process.

    Done by `instrument`, so that no call ever waits for it. Cost: about 60 ms, or 200 ms where it
    is the first to import pydantic.
    """
    global _prices
    if _prices is not None:
        return
    with _LOAD:
        if find_spec("genai_prices") is None:
            return
        from genai_prices.data_snapshot import get_snapshot

        from llmwatch.signals.prices import Prices

        loaded = Prices(get_snapshot)
        # The first question compiles the list's patterns: better here than in a call.
        loaded.price(Series("chat", "openai", "gpt-4o", None, "localhost"), Usage(0), None)
        _prices = loaded
