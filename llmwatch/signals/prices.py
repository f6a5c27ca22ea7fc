"""The price list of ``genai-prices``, read off into a few numbers a model.

The list's own arithmetic takes 150 µs a call; for text, a price is a few rates times counts, which
takes one. Sound and other tokens with a price apart are still left to the list itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmwatch.measure.record import Series, Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider

MOST_MODELS: Final = 512
"""Models whose prices are kept at hand."""

_PROVIDERS = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "aws.bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "x_ai": "x-ai",
}
"""Provider names of ours that are not those of the list."""

_SPECIAL_TIERS = frozenset(("batch", "fast", "flex", "priority", "scale"))
"""Service tiers with a price of their own: where the list has none, the cost is unknown."""


class Rates(NamedTuple):
    """Dollars for one call, and for one token of each kind."""

    call: float
    fresh_input: float
    cache_read: float
    cache_write: float
    output: float


class Model(NamedTuple):
    """The prices of one model under one service tier."""

    rates: Rates
    steps: tuple[tuple[int, Rates], ...]
    """Ascending: above so many input tokens, these rates hold for all tokens of the call."""
    exact: Callable[[Usage], float]
    """The list's own arithmetic."""
    text_only: bool
    """True if the rates are all there is to this model, as long as no sound is used."""
    until: float
    """Unix time until which these prices hold."""


class Prices:
    """The loaded list, with the models that were asked for read off.

    Args:
        snapshot: Gives the list in force; an application may replace it while it runs.
    """

    def __init__(self, snapshot: Callable[[], DataSnapshot]) -> None:
        self._snapshot = snapshot
        self._current = snapshot()
        self._models: dict[tuple[Any, ...], Model | None] = {}

    def price(self, series: Series, usage: Usage, tier: str | None) -> float | None:
        """Cost of one operation, or None where it cannot be known."""
        if (snapshot := self._snapshot()) is not self._current:
            self._current, self._models = snapshot, {}
        key = (*series[:5], tier)  # up to the server's address: all that a price depends on
        try:
            model = self._models[key]
        except KeyError:
            model = self._read(key, series, tier)
        if model is not None and model.until <= time():
            model = self._read(key, series, tier)
        return None if model is None else cost(model, usage)

    def _read(self, key: tuple[Any, ...], series: Series, tier: str | None) -> Model | None:
        if len(self._models) >= MOST_MODELS:
            self._models.clear()
        found = self._find(series)
        self._models[key] = model = None if found is None else read_model(*found, tier)
        return model

    def _find(self, series: Series) -> tuple[Provider, ModelInfo] | None:
        for provider, url in _ways(series):
            for model in (series.response_model, series.request_model):
                # Open weights at a host that the list does not know: who serves them sets a price.
                if model is not None and not (url is None and "gpt-oss" in model):
                    try:
                        return self._current.find_provider_model(model, None, provider, url)
                    except LookupError:
                        continue
        return None


def _ways(series: Series) -> list[tuple[str | None, str | None]]:
    """How to find who is paid: by host, then by name (`openai` may only be whose API it speaks)."""
    if series.operation == "decision" and series.provider == "openai":
        return [("openai-decisions", None)]  # charged by input alone, and listed apart
    name = _PROVIDERS.get(series.provider, series.provider)
    if series.server_address is None:
        return [(name, None)]
    return [(None, f"https://{series.server_address}"), (name, None)]


def cost(model: Model, usage: Usage) -> float | None:
    """Cost of *usage*; None where it lacks a count that the price needs, or contradicts itself."""
    given = usage.input_tokens or 0
    rates = model.rates
    for start, above in model.steps:
        if given > start:
            rates = above
    if usage.output_tokens is None and rates.output:
        return None
    if not model.text_only or usage.audio_input_tokens or usage.audio_output_tokens:
        try:
            return model.exact(usage)
        except ValueError:
            return None
    read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    if read + write > given:
        return None
    total = (
        rates.call
        + (given - read - write) * rates.fresh_input
        + read * rates.cache_read
        + write * rates.cache_write
        + (usage.output_tokens or 0) * rates.output
    )
    return round(total, 12)  # 0.00325, not 0.0032500000000000003


def read_model(provider: Provider, model: ModelInfo, tier: str | None) -> Model | None:
    """Prices of a model now; None where the list's would not be the true ones.

    Args:
        provider: Who is paid.
        model: Its entry in the list.
        tier: Service tier, None for the ordinary one.

    Cost: about 0.1 ms.
    """
    from genai_prices import Usage as Counts

    now = datetime.now(UTC)
    context = _context(model, tier)
    if context is None:
        return None
    prices = {
        unit: price
        for unit, price in vars(model.get_prices(now, context)).items()
        if price is not None
    }
    if "input_mtok" not in prices or any("image" in unit or "video" in unit for unit in prices):
        return None  # charged by something that is not in the usage

    def exact(usage: Usage) -> float:
        counts = Counts(
            input_tokens=usage.input_tokens or 0,
            output_tokens=usage.output_tokens or 0,
            cache_read_tokens=usage.cache_read_tokens or 0,
            cache_write_tokens=usage.cache_write_tokens or 0,
            input_audio_tokens=usage.audio_input_tokens or 0,
            output_audio_tokens=usage.audio_output_tokens or 0,
            output_reasoning_tokens=usage.reasoning_tokens or None,
        )
        counted = model.calc_price(
            counts, provider, genai_request_timestamp=datetime.now(UTC), price_context=context
        )
        return float(counted.total_price)

    return Model(
        _rates(prices, 0),
        tuple((start, _rates(prices, start + 1)) for start in _starts(prices)),
        exact,
        not any("reasoning" in unit or "citation" in unit for unit in prices),
        _until(model, now),
    )


def _context(model: ModelInfo, tier: str | None) -> Mapping[str, str] | None:
    """What chooses among the prices of a model; None where the tier's price is not listed."""
    if any(variant.when == {"service_tier": tier} for variant in model.price_variants or ()):
        return {"service_tier": tier or ""}
    return None if tier in _SPECIAL_TIERS else {}


def _starts(prices: Mapping[str, Any]) -> list[int]:
    return sorted({step.start for price in prices.values() for step in getattr(price, "tiers", ())})


def _rates(prices: Mapping[str, Any], given: int) -> Rates:
    """Rates of a call with *given* input tokens; a kind without a price costs what input costs."""

    def rate(unit: str, otherwise: float = 0.0) -> float:
        price = prices.get(unit)
        if price is None:
            return otherwise
        for step in getattr(price, "tiers", ()):
            if given > step.start:
                price = step.price
        return float(getattr(price, "base", price)) / 1e6

    fresh = rate("input_mtok")
    return Rates(
        float(prices.get("requests_kcount", 0)) / 1e3,
        fresh,
        rate("cache_read_mtok", fresh),
        rate("cache_write_mtok", fresh),
        rate("output_mtok"),
    )


def _until(model: ModelInfo, now: datetime) -> float:
    """Unix time at which prices may change: never, at the next minute, or at midnight UTC."""
    conditions = model.prices if isinstance(model.prices, list) else []
    constraints = [each.constraint for each in (*conditions, *(model.price_variants or ()))]
    if all(each is None for each in constraints):
        return inf
    if any(hasattr(each, "start_time") for each in constraints):
        return (now.timestamp() // 60 + 1) * 60
    return (now.timestamp() // 86_400 + 1) * 86_400
