"""What the conventions say is counted, and under which attributes."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)

from llmwatch.measure.record import Usage
from tests.signals.measured import (
    DURATION,
    SETTINGS,
    TOKENS,
    by_attribute,
    key,
    only,
    read,
    record,
    streamed,
)

# --- what the conventions say --------------------------------------------------------------------


def test_error_type_is_on_durations_only(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    ours.put(streamed(0.1, error="TimeoutError"))
    found = read(reader)
    assert only(found[DURATION]).attributes["error.type"] == "TimeoutError"
    for name, metric in found.items():
        if name != DURATION:
            assert not any("error.type" in each.attributes for each in metric.data.data_points)


def test_points_carry_the_series_and_what_the_program_added(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    ours.put(record(extra=(("llmwatch.route", "search"),)))
    assert only(read(reader)[DURATION]).attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small-1",
        "server.address": "api.test",
        "server.port": 443,
        "llmwatch.route": "search",
    }


def test_tokens_by_type(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    ours.put(record(usage=Usage(100, 20)))
    ours.put(record(usage=Usage(50, None), operation="embeddings"))
    ours.put(record())
    found = [(key(each), each.sum) for each in read(reader)[TOKENS].data.data_points]
    assert sorted(total for _, total in found) == [20, 50, 100]
    assert by_attribute(read(reader)[TOKENS], "gen_ai.token.type").keys() == {"input", "output"}


def test_usage_counters_of_genai_count_every_inference_with_zeros_and_modalities(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader), "genai-0.1")
    ours.put(record(error="TimeoutError"))
    found = read(reader)
    used = only(found["gen_ai.client.inference.usage.input_tokens"])
    assert (used.value, used.attributes["gen_ai.token.modality"]) == (0, "unknown")
    assert "gen_ai.client.inference.operation.input_tokens" not in found

    ours.put(record(usage=Usage(100, 20, audio_input_tokens=60, cache_read_tokens=5)))
    found = read(reader)
    used = by_attribute(
        found["gen_ai.client.inference.usage.input_tokens"], "gen_ai.token.modality"
    )
    assert {name: each.value for name, each in used.items()} == {"unknown": 40, "audio": 60}
    assert only(found["gen_ai.client.inference.operation.input_tokens"]).sum == 100
    assert only(found["gen_ai.client.inference.usage.cache_read.input_tokens"]).value == 5
    assert found["gen_ai.client.inference.usage.input_tokens"].data.is_monotonic


def test_embeddings_have_metrics_of_their_own_in_genai(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader), "genai-0.1")
    ours.put(record(operation="embeddings", usage=Usage(9), error="TimeoutError"))
    found = read(reader)
    assert set(found) == {
        "gen_ai.client.embeddings.duration",
        "gen_ai.client.embeddings.operation.input_tokens",
    }
    duration = only(found["gen_ai.client.embeddings.duration"])
    assert duration.attributes["error.type"] == "TimeoutError"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_response_fetched_again_costs_no_tokens_again(made, setting):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader), setting)
    ours.put(record(operation="fetch_response", usage=Usage(9, 9), cost=0.1))
    assert {name.rpartition(".")[2] for name in read(reader)} == {"duration"}


def test_an_estimate_is_labelled(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    ours.put(record(usage=Usage(None, 3, estimated=True)))
    ours.put(record(usage=Usage(None, 5)))
    found = read(reader)
    used = by_attribute(found[TOKENS], "llmwatch.usage.estimated")
    assert {label: each.sum for label, each in used.items()} == {True: 3, None: 5}
    assert only(found[DURATION]).count == 2


def test_dup_says_everything_twice_but_our_own_once(made):
    names = {}
    for setting in SETTINGS:
        reader = InMemoryMetricReader()
        ours = made.watch(made.provider(reader), setting)
        ours.put(streamed(0.1))
        names[setting] = set(read(reader))
    assert names["dup"] == names["1.41"] | names["genai-0.1"]
    assert names["1.41"] & names["genai-0.1"] == {
        each for each in names["dup"] if each.startswith("llmwatch.")
    }
