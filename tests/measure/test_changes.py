"""A finding is raised once and cleared once."""

from __future__ import annotations

from llmwatch.measure.changes import TO_CLEAR, TO_RAISE, Changes
from llmwatch.measure.findings import Finding


def finding(value: float = 1.0) -> Finding:
    return Finding("outlier", "h.3", 3, "decode", value, 0.5, "h.3 is slow", {"seconds": value})


def told(changes: Changes, *times: bool) -> str:
    marks = ""
    for time in times:
        raised, cleared = changes.take([finding()] if time else [])
        marks += "r" * len(raised) + "c" * len(cleared) or "."
    return marks


def test_what_is_found_often_enough_in_a_row_is_raised_once():
    assert TO_RAISE == 2
    assert told(Changes(), True, True, True, True) == ".r.."
    assert told(Changes(), True, False, True, False, True) == "....."


def test_what_is_missed_often_enough_in_a_row_is_cleared_once():
    assert TO_CLEAR == 3
    changes = Changes()
    assert told(changes, True, True, False, False, True, False, False, False, False) == ".r.....c."
    assert changes.raised == ()
    assert told(changes, True, True) == ".r"


def test_what_is_raised_is_as_it_was_last_found():
    changes = Changes()
    for value in (1.0, 2.0, 3.0):
        changes.take([finding(value)])
    assert [each.value for each in changes.raised] == [3.0]


def test_the_same_finding_of_another_layer_is_another():
    changes = Changes()
    other = Finding("outlier", "h.4", 4, "decode", 1.0, 0.5, "", {})
    changes.take([finding()])
    raised, _ = changes.take([finding(), other])
    assert [each.layer for each in raised] == ["h.3"]
