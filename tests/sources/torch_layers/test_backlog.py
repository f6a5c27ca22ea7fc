"""Sampled passes are summed up on a thread of ours: nothing is lost, nothing is left behind."""

from __future__ import annotations

import os
from threading import enumerate as threads
from time import monotonic, sleep

import pytest
import torch

from llmwatch.sources.torch_layers import backlog, watcher
from llmwatch.testing import capture
from tests.sources.torch_layers.models import IDS, tower


@pytest.fixture
def nobody(monkeypatch):
    """The thread does not come to it."""
    monkeypatch.setattr(backlog, "wake", lambda _: True)


def ours() -> list[str]:
    return [each.name for each in threads() if each.name == "llmwatch-layers"]


def test_a_thread_sums_up_and_ends_with_the_last_watcher(watch):
    model, other = tower(), tower()
    assert ours() == []
    with watch(model) as watcher:
        with watch(other):
            assert ours() == []  # nothing to do yet
            model(IDS)
            other(IDS)
            assert ours() == ["llmwatch-layers"]
            waited_until = monotonic() + 30
            while watcher._pending and monotonic() < waited_until:
                sleep(0.01)
            assert not watcher._pending
        assert ours() == ["llmwatch-layers"]
    assert ours() == []


def test_forwards_after_the_thread_has_ended_have_another(watch):
    model = tower()
    for _ in range(3):
        with watch(model) as watcher:
            model(IDS)
        assert watcher.passes == {"forward": 1}
    assert ours() == []


def test_readers_do_not_wait_for_the_thread(watch, nobody):
    """Whatever is asked first: all that ran is in the answer."""
    model = tower()
    for read in (
        lambda w: len(w.samples),
        lambda w: w.passes["forward"],
        lambda w: w.totals()[0].passes,
        lambda w: w.report().portrait.forwards[0].count,
    ):
        with watch(model, flops=False) as watched, torch.inference_mode():
            for _ in range(3):
                model(IDS)
            assert read(watched) == 3


def test_collected_metrics_hold_every_forward_that_ran_before(watch, nobody):
    """Those of its own session: what ran before is not counted in it."""
    model = tower()
    with watch(model), torch.inference_mode():
        model(IDS)
        with capture() as seen:
            model(IDS)
            model(IDS)
            points = seen.metrics()["llmwatch.layer.duration"]
        assert {
            each.count for each in points if each.attributes["llmwatch.layer.name"] == "head"
        } == {2}
        with capture() as seen:
            pass
        assert "llmwatch.layer.duration" not in seen.metrics()


def test_what_waits_when_a_session_ends_is_told_to_it(watch, nobody):
    model = tower()
    with watch(model), capture() as seen, torch.inference_mode():
        model(IDS)
    assert seen.metrics()["llmwatch.layer.duration"]


def test_a_queue_that_is_full_is_not_added_to(watch, nobody, monkeypatch):
    """Forwards go on, unmeasured, and are counted as such; later ones are sampled again."""
    monkeypatch.setattr(watcher, "MOST_QUEUED", 20)
    model = tower()
    with watch(model) as watched, torch.inference_mode():
        for _ in range(25):
            model(IDS)
        assert watched.given_up == 5
        assert watched.passes == {"forward": 20}
        model(IDS)
        assert watched.passes == {"forward": 21}


def test_without_a_thread_the_forward_sums_up_by_itself(watch, monkeypatch):
    """As when the interpreter is ending, or there are too many threads."""
    monkeypatch.setattr(backlog, "wake", lambda _: False)
    model = tower()
    with watch(model) as watched:
        model(IDS)
        assert not watched._pending


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_thread_of_its_own(watch):
    """What waits is the parent's to sum up; the child sums up what runs in it."""
    model = tower()
    with watch(model) as watched, torch.inference_mode():
        model(IDS)
        child = os.fork()
        if not child:
            told = 1
            try:
                alone = not ours()
                model(IDS)
                told = 0 if alone and ours() and len(watched._pending) == 1 else 2
            finally:
                os._exit(told)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert watched.passes == {"forward": 1}
