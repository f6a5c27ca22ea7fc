"""Numbers are short, and what they say is the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.view.numbers import age, dollars, rate, seconds, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 µs"),
        (0.00021, "210 µs"),
        (0.0009999, "1.0 ms"),
        (0.0034, "3.4 ms"),
        (0.0212, "21 ms"),
        (0.9999, "1.00 s"),
        (1.123, "1.12 s"),
        (12.34, "12.3 s"),
        (123.4, "123 s"),
    ],
)
def test_seconds_are_short(value: float, shown: str) -> None:
    """At most six characters, with a unit."""
    assert seconds(value) == shown


@given(st.floats(0, 9_000))
def test_seconds_are_right(value: float) -> None:
    """What is shown is the value, to 5 % or half a microsecond, in six characters."""
    shown = seconds(value)
    number, unit = shown.split()
    assert len(shown) <= 6
    read = float(number) * {"µs": 1e-6, "ms": 1e-3, "s": 1}[unit]
    assert read == pytest.approx(value, rel=0.05, abs=0.51e-6)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (12.5, "12.50"), (0.000342, "0.00034"), (0.0000003, "<0.00001")],
)
def test_dollars_have_two_digits_that_count(value: float, shown: str) -> None:
    """Never 0.00 for what costs something, never an exponent."""
    assert dollars(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(4.56, "4.6"), (9.96, "10"), (45.6, "46"), (4567.8, "4568"), (45678.0, "45.7k")],
)
def test_rates_are_short(value: float, shown: str) -> None:
    """At most five characters."""
    assert rate(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(7, "7"), (134_515_008, "135 M"), (999.7, "1 k"), (2e12, "2 T")]
)
def test_sizes_are_short(value: float, shown: str) -> None:
    """Three digits and the letter of a power of a thousand."""
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (1e6, "11 d")]
)
def test_ages_are_in_their_largest_unit(value: float, shown: str) -> None:
    """Rounded down, so that nothing is older than it is; a clock that was set back is no minus."""
    assert age(value) == shown
