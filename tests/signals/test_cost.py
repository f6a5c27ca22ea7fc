"""Costs are those of the price list itself, or they are not there."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("genai_prices")

from genai_prices import Usage as Counts
from genai_prices import calc_price
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from llmwatch.measure.record import Series, Usage
from llmwatch.signals import cost, prices
from llmwatch.signals.cost import price

OPENAI = Series("chat", "openai", "gpt-4o", "gpt-4o-2024-08-06", "api.openai.com", 443)


def series(model: str, provider: str = "openai", **more: Any) -> Series:
    return Series("chat", provider, model, model, **more)


def listed(usage: Usage, model: str, provider: str) -> float | None:
    """The oracle: what the list's own function says."""
    counts = Counts(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cache_read_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0,
        input_audio_tokens=usage.audio_input_tokens or 0,
        output_audio_tokens=usage.audio_output_tokens or 0,
        output_reasoning_tokens=usage.reasoning_tokens or None,
    )
    try:
        return float(calc_price(counts, model, provider_id=provider).total_price)
    except (LookupError, ValueError):
        return None


COMMON = [
    "gpt-4o",
    "gpt-4o-mini-2024-07-18",
    "gpt-5.4",
    "gpt-6-sol",
    "o3",
    "text-embedding-3-small",
]
tokens = st.integers(0, 2_000_000)


@given(st.sampled_from(COMMON), tokens, tokens, st.none() | tokens, st.none() | tokens)
def test_a_price_is_what_the_list_says(model, fresh, made, read, write) -> None:
    usage = Usage(fresh + (read or 0) + (write or 0), made, read, write)
    expected = listed(usage, model, "openai")
    assert price(series(model), usage) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("provider", [each.id for each in get_snapshot().providers])
def test_every_model_of_the_list_is_priced_like_the_list_or_not_at_all(provider) -> None:
    snapshot = get_snapshot()
    (who,) = [each for each in snapshot.providers if each.id == provider]
    now = datetime.now(UTC)
    for model in who.models:
        found = prices.read_model(who, model, None)
        if found is None:
            continue
        for usage in (
            Usage(1000, 100, 200, 50),
            Usage(1_000_000, 70_000, 300_000),
            Usage(1000, 100, None, None, 30),
            Usage(1000, 100, None, None, 30, 400, 50),
            Usage(0, 0),
        ):
            counts = Counts(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens or 0,
                cache_write_tokens=usage.cache_write_tokens or 0,
                input_audio_tokens=usage.audio_input_tokens or 0,
                output_audio_tokens=usage.audio_output_tokens or 0,
                output_reasoning_tokens=usage.reasoning_tokens or None,
            )
            ours = prices.cost(found, usage)
            try:
                theirs = model.calc_price(counts, who, genai_request_timestamp=now).total_price
            except ValueError:
                assert ours is None
            else:
                assert ours == pytest.approx(float(theirs), rel=1e-9, abs=1e-12), model.id


@pytest.mark.parametrize(
    ("provider", "theirs", "model"),
    [
        ("azure.ai.openai", "azure", "gpt-4o"),
        ("mistral_ai", "mistral", "mistral-large-latest"),
        ("x_ai", "x-ai", "grok-3"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("groq", "groq", "llama-3.3-70b-versatile"),
        ("gcp.gemini", "google", "gemini-2.5-flash"),
        ("anthropic", "anthropic", "claude-sonnet-4-0"),
        ("openrouter", "openrouter", "openai/gpt-4o"),
    ],
)
def test_provider_names_of_the_conventions_are_found_in_the_list(provider, theirs, model) -> None:
    usage = Usage(1000, 100)
    assert price(series(model, provider), usage) == pytest.approx(listed(usage, model, theirs))


@pytest.mark.parametrize("provider", sorted(set(prices._PROVIDERS.values())))
def test_every_mapped_provider_exists(provider) -> None:
    assert provider in {each.id for each in get_snapshot().providers}


def test_the_host_says_who_is_paid_where_the_list_knows_it() -> None:
    here = series("llama-3.3-70b-versatile", server_address="api.groq.com")
    assert price(here, Usage(1000, 100)) == listed(Usage(1000, 100), here.request_model, "groq")


def test_the_response_model_decides_and_the_request_model_helps_out() -> None:
    usage = Usage(1000, 100)
    assert price(Series("chat", "openai", "gpt-4o", "gpt-4o-mini"), usage) == listed(
        usage, "gpt-4o-mini", "openai"
    )
    assert price(Series("chat", "azure.ai.openai", "my-deployment", "gpt-4o"), usage) is not None
    assert price(Series("chat", "openai", "gpt-4o", "who-knows"), usage) is not None


@pytest.mark.parametrize(
    ("given", "usage"),
    [
        (series("no-such-model"), Usage(10, 10)),
        (series("no-such-model", "nobody", server_address="localhost"), Usage(10, 10)),
        (Series("chat", "openai"), Usage(10, 10)),
        (series("gpt-4o"), Usage(None, 10)),
        (series("gpt-4o"), Usage(10, None)),
        (series("gpt-4o"), Usage(None, 10, estimated=True)),
        (series("gpt-4o"), Usage(10, 10, estimated=True)),
        (series("gpt-4o"), Usage(10, 10, cache_read_tokens=11)),
        (series("whisper-1"), Usage(10, 10)),
        (series("gpt-image-1"), Usage(10, 10)),
        (series("gpt-oss-20b", server_address="localhost"), Usage(10, 10)),
    ],
)
def test_what_is_not_known_has_no_cost_and_never_zero(given, usage) -> None:
    assert price(given, usage) is None


def test_embeddings_need_no_output_count() -> None:
    assert price(series("text-embedding-3-small"), Usage(1000)) == pytest.approx(2e-5)


def test_a_service_tier_has_its_own_price_or_none() -> None:
    usage = Usage(1000, 100)
    standard = price(OPENAI, usage)
    assert price(OPENAI, usage, "default") == standard
    assert price(OPENAI, usage, "scale") is None
    cheap, dear = (price(series("gpt-5"), usage, tier) for tier in ("flex", "priority"))
    assert cheap < price(series("gpt-5"), usage) < dear


def test_decisions_are_charged_by_input_alone() -> None:
    decision = Series("decision", "openai", "gpt-6-luna", "gpt-6-luna", "api.openai.com")
    assert price(decision, Usage(1000, 100)) == price(decision, Usage(1000, 0))


def test_a_list_that_the_application_replaced_is_followed() -> None:
    before = price(OPENAI, Usage(1000, 100))
    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert price(OPENAI, Usage(1000, 100)) is None
    finally:
        set_custom_snapshot(None)
    assert price(OPENAI, Usage(1000, 100)) == before


def test_many_models_are_not_all_kept() -> None:
    for number in range(prices.MOST_MODELS + 10):
        price(series(f"model-{number}"), Usage(1, 1))
    assert len(cost._prices._models) <= prices.MOST_MODELS


@pytest.fixture(autouse=True)
def _loaded() -> None:
    """The list is there, as after `instrument`."""
    cost.load()


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


PRELUDE = """
from llmwatch.measure.record import Series, Usage
from llmwatch.signals import cost
series, usage = Series("chat", "openai", "gpt-4o"), Usage(1000, 100)
"""


def test_no_call_waits_for_the_list() -> None:
    """A process that did not load it has no costs, at once; one that did has them."""
    assert run(PRELUDE + "print(cost.price(series, usage))") == "None"
    assert run(PRELUDE + "cost.load(); print(cost.price(series, usage))") == "0.0035"


def test_without_the_package_there_is_no_cost() -> None:
    code = """
import sys
sys.modules["genai_prices"] = None
import importlib.util
importlib.util.find_spec = lambda name: None
"""
    assert run(code + PRELUDE + "cost.load(); print(cost.price(series, usage))") == "None"


def test_importing_loads_no_price_list() -> None:
    assert run(PRELUDE + "import sys; print('genai_prices' in sys.modules)") == "False"
