"""Time functions of one process by turns, so that whatever the machine does, it does to all."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from timeit import timeit
from typing import Any


def seconds(*functions: Callable[[], Any], number: int, rounds: int = 150) -> list[float]:
    """CPU seconds a call of each: the best of many short rounds.

    Args:
        *functions: What to time.
        number: Calls in one round.
        rounds: How often each has its turn.
    """
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            took = timeit(function, number=number, timer=process_time)
            best[index] = min(best[index], took)
    return [each / number for each in best]
