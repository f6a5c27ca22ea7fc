"""Embedding calls feed drift monitors; what the caller has is neither touched nor waited for."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter

import numpy as np
import pytest
from opentelemetry import trace

import llmwatch
from llmwatch import ConfigError, DriftMonitor
from llmwatch.drift import files, registry
from llmwatch.drift.reference import fit_reference
from llmwatch.signals import drift_feed
from llmwatch.testing import capture
from tests.sources.openai import transport

DIMENSION = 8


@pytest.fixture(scope="module")
def reference():
    rows = np.random.default_rng(0).normal(size=(400, DIMENSION))
    return fit_reference(rows, window=100, replicates=100)


@pytest.fixture
def monitor(reference):
    return DriftMonitor("queries", reference, window=100)


def seen_by(monitor) -> int:
    return sum(monitor.status().seen.values())


@pytest.mark.parametrize(
    "encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]
)
def test_every_encoding_reaches_the_monitor(monitor, encoding):
    with capture(drift=monitor), transport.client() as client:
        client.embeddings.create(model="m", input=["a", "b", "c"], **encoding)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
        llmwatch.flush()
        assert seen_by(monitor) == 3
    state = monitor.state()
    expected = 3 * (0.25 - monitor.reference.subspace.mean)
    assert state.shift == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_came_as_base64_is_taken_as_it_came(monitor, monkeypatch, share):
    """Which is what the client asks for by itself: its lists of numbers are never copied."""
    monkeypatch.setattr(drift_feed.Feed, "put", None)
    with capture(drift=monitor, drift_sample=share), transport.client() as client:
        answer = client.embeddings.create(model="m", input=["a"] * 200)
        assert isinstance(answer.data[0].embedding, list)
        for each in answer.data:
            each.embedding[:] = [0.0]
    assert seen_by(monitor) == 200 if share == 1 else 60 < seen_by(monitor) < 140
    assert not monitor.invalid


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_raw_answers_are_fed_too(monitor, encoding):
    with capture(drift=monitor), transport.client() as client:
        ask = {"model": "m", "input": ["a", "b"], "encoding_format": encoding}
        client.embeddings.with_raw_response.create(**ask)
        with client.embeddings.with_streaming_response.create(**ask) as response:
            response.read()
    assert seen_by(monitor) == 4
    assert not monitor.invalid


def test_a_monitor_that_names_its_model_gets_no_others(reference, caplog):
    """Vectors of two models are no cloud; whoever names none asks for all."""
    named = DriftMonitor("queries", reference, window=100, model="m")
    unnamed = DriftMonitor("all", reference, window=100)
    for monitor in (named, unnamed):
        with capture(drift=monitor), transport.client() as client:
            for model in ("m", "other", "other"):
                client.embeddings.create(model=model, input=["a", "b"])
    assert (seen_by(named), named.invalid) == (2, {"model": 4})
    assert (seen_by(unnamed), unnamed.invalid) == (6, {})
    assert caplog.text.count("watches model 'm' and was given embeddings of 'other'") == 1


async def test_asynchronous_calls_too(monitor):
    with capture(drift=monitor):
        async with transport.aclient() as client:
            await client.embeddings.create(model="m", input=["a", "b"])
    assert seen_by(monitor) == 2


def test_what_the_caller_does_to_the_vectors_later_does_not_matter(monitor):
    with capture(drift=monitor), transport.client() as client:
        answer = client.embeddings.create(model="m", input=["a"], encoding_format="float")
        answer.data[0].embedding[:] = [float("nan")] * DIMENSION
        assert not monitor.invalid
    assert seen_by(monitor) == 1
    assert not monitor.invalid


def test_items_know_their_session_and_their_trace(monitor):
    said = llmwatch.attributes(session="s1")
    with capture(drift=monitor) as seen, transport.client() as client, said:
        client.embeddings.create(model="m", input=["a", "b", "c"])
    (key,) = monitor.status().keys
    (span,) = seen.spans
    assert (key.filled, key.thinned) == (1, 2)
    assert key.foreign_traces == (f"{span.context.trace_id:032x}",)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (None, {"": 3}),
        ("route", {"search": 2, "": 1}),
        ("language", {"de": 2, "": 1}),
        ("app.tier", {"2": 2, "": 1}),
    ],
)
def test_what_the_program_says_of_its_calls_keeps_them_apart(monitor, key, found):
    said = llmwatch.attributes(route="search", language="de", app__tier=2)
    with capture(drift=monitor, drift_key=key), transport.client() as client:
        with said:
            client.embeddings.create(model="m", input=["a", "b"])
        client.embeddings.create(model="m", input=["c"])
    assert dict(monitor.status().seen) == found


def test_models_and_dimensions_get_monitors_of_their_own():
    with capture(drift="first:2000"), transport.client() as client:
        client.embeddings.create(model="m", input=["a", "b"])
        client.embeddings.create(model="n", input=["a"])
        llmwatch.flush()
        feed = drift_feed.feed
        assert feed is not None
        found = {key: seen_by(monitor) for key, monitor in feed.monitors.items()}
        assert found == {("m", DIMENSION): 2, ("n", DIMENSION): 1}
        context = trace.INVALID_SPAN_CONTEXT
        feed._hand_on(("m", 1, lambda: [[0.1, 0.2]], {}, context))
        assert feed.monitors["m", 2].name == "m (2)"


def test_vectors_that_cannot_be_read_are_counted_and_cost_the_others_nothing(monitor):
    """As a server sends them that failed for some of the texts."""
    with capture(drift=monitor):
        feed = drift_feed.feed
        assert feed is not None
        whole = [0.25] * DIMENSION
        odd = ["AAA=", "no base64", None, [], [[0.1]], ["a"], 0.1, b64encode(bytes(6)).decode()]
        feed._hand_on(("m", 9, lambda: [*odd, whole], {}, trace.INVALID_SPAN_CONTEXT))
    assert seen_by(monitor) == 1
    assert dict(monitor.invalid) == {"unreadable": len(odd)}


def test_a_sample_is_enough(monitor):
    with capture(drift=monitor, drift_sample=0.5), transport.client() as client:
        client.embeddings.create(model="m", input=["a"] * 1000)
    assert 400 < seen_by(monitor) < 600


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_a_full_queue_leaves_out_and_counts(monitor, monkeypatch, encoding):
    monkeypatch.setattr(drift_feed, "MOST_WAITING", 5)
    monkeypatch.setattr(drift_feed, "PAUSE", 30.0)
    with capture(drift=monitor), transport.client() as client:
        client.embeddings.create(model="m", input=["a"] * 3, **encoding)
        client.embeddings.create(model="m", input=["a"] * 6, **encoding)
    left_out = monitor.invalid["overflow"]
    assert left_out == 4
    assert seen_by(monitor) == 5


def test_undone_nothing_is_fed(monitor):
    with capture(drift=monitor):
        assert drift_feed.feed is not None
    assert drift_feed.feed is None
    with capture(), transport.client() as client:
        client.embeddings.create(model="m", input=["a"])
    assert seen_by(monitor) == 0


@pytest.mark.parametrize(
    "value",
    [
        *("last:5", 3, "first:many", "sliding:", "sliding:0s", "first:400", "file:/none.npz"),
        DriftMonitor,
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(value):
    with pytest.raises(ConfigError, match=r"first:2000|none\.npz|not the class"):
        llmwatch.instrument(drift=value)


@pytest.mark.parametrize("value", ["first:10", "file:/none.npz"])
def test_numbers_are_refused_a_reference_likewise(value):
    with pytest.raises(ConfigError, match=value), capture(drift_numbers={"duration": value}):
        pass


def test_a_reference_file_says_how_large_windows_are(reference, tmp_path):
    files.save(reference, tmp_path / "reference.npz")
    with capture(drift=f"file:{tmp_path}/reference.npz"), transport.client() as client:
        client.embeddings.create(model="m", input=["a"])
        llmwatch.flush()
        (found,) = [each for each in registry.living() if each.name == "m"]
        assert found.window == reference.window == 100
        assert seen_by(found) == 1


def test_a_reference_of_another_model_is_refused_with_a_log_line(tmp_path, caplog):
    saved = fit_reference(
        np.random.default_rng(0).normal(size=(2000, DIMENSION)), model="other", replicates=100
    )
    path = tmp_path / "reference.npz"
    DriftMonitor("other", saved).save(path)
    with capture(drift=f"file:{path}"), transport.client() as client:
        client.embeddings.create(model="m", input=["a"])
        client.embeddings.create(model="m", input=["a"])
    lines = Counter(each.getMessage()[:16] for each in caplog.records)
    assert lines["no drift monitor"] == 1
