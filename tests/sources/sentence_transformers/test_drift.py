"""Embeddings of local models reach the drift monitors, as they were when they were made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import llmwatch
from llmwatch.signals import drift_feed
from llmwatch.signals.snapshots import rows_of
from llmwatch.testing import capture
from tests.sources.sentence_transformers.test_encode import TEXTS


class Kept:
    """A monitor that keeps what it is given."""

    model = ""
    """It watches any."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, rows: Any, **_: Any) -> None:
        self.rows.extend(np.asarray(rows))

    def leave_out(self, reason: str, many: int) -> None:
        self.rows.append((reason, many))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    found = Kept()
    monkeypatch.setattr(drift_feed.Feed, "_monitor", lambda *_: found)
    return found


CALLS: dict[str, Callable[[Any], Any]] = {
    "an array": lambda model: model.encode(TEXTS),
    "one": lambda model: model.encode(TEXTS[0]),
    "a tensor": lambda model: model.encode(TEXTS, convert_to_tensor=True),
    "tensors": lambda model: model.encode(TEXTS, convert_to_numpy=False),
    "queries": lambda model: model.encode_query(TEXTS),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_form_of_result_reaches_the_monitor(model: Any, kept: Kept, name: str) -> None:
    """What the user does with it afterwards does not."""
    with capture(drift="first:2000"):
        result = CALLS[name](model)
        wanted = np.array([each.tolist() for each in (result if name != "one" else [result])])
        with torch.inference_mode():
            for each in result if isinstance(result, list) else [result]:
                each[...] = float("nan")
        llmwatch.flush()
    assert len(kept.rows) == len(wanted)
    for row, vector in zip(kept.rows, wanted, strict=True):
        assert np.array_equal(row, vector)


@pytest.mark.parametrize(
    "more", [{"precision": "int8"}, {"output_value": "token_embeddings"}, {"output_value": None}]
)
def test_what_cannot_be_compared_is_left_alone(
    model: Any, kept: Kept, more: dict[str, Any]
) -> None:
    with capture(drift="first:2000"):
        model.encode(TEXTS, **more)
    assert kept.rows == []


def test_of_more_than_finds_room_a_random_part_is_taken(
    model: Any, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_feed, "MOST_WAITING", 3)
    with capture(drift="first:2000"):
        plain = model.encode(TEXTS)
        llmwatch.flush()
    assert ("overflow", 2) in kept.rows
    rows = [row for row in kept.rows if not isinstance(row, tuple)]
    assert len(rows) == 3
    assert all(any(np.array_equal(row, each) for each in plain) for row in rows)


def test_a_sample_is_a_share(model: Any, kept: Kept) -> None:
    with capture(drift="first:2000", drift_sample=0.3):
        for _ in range(4):
            model.encode(["a"] * 100)
        llmwatch.flush()
    assert 60 < len(kept.rows) < 180  # 400 of 0.3: 120, give or take 9


@pytest.mark.parametrize("rows", [None, [0, 2]])
@pytest.mark.parametrize("form", ["array", "tensor", "tensors", "half"])
def test_a_snapshot_is_a_copy(form: str, rows: list[int] | None) -> None:
    plain = np.arange(12, dtype=np.float32).reshape(4, 3)
    matrix: Any = plain.copy()
    if form != "array":
        matrix = torch.from_numpy(matrix)
    if form == "half":
        matrix = matrix.bfloat16()
    if form == "tensors":
        matrix = list(matrix)
    read = rows_of(matrix, rows)
    for row in matrix:
        row[...] = -1
    wanted = plain if rows is None else plain[rows]
    assert np.array_equal(np.asarray(read()), wanted)


def test_a_tensor_with_a_gradient_can_be_copied() -> None:
    matrix = torch.ones(2, 3, requires_grad=True)
    assert np.asarray(rows_of(matrix, None)()).sum() == 6
    assert np.asarray(rows_of(matrix, [1])()).shape == (1, 3)
