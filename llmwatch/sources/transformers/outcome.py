"""Read what came out: output tokens of each sequence, and why it ended.

The ids are read once, at the end. On an accelerator they are copied without waiting for it: the
loop has just waited for its last step, so the copy is there within microseconds; where it is not
within `PATIENCE`, what only the ids could tell is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import perf_counter, time
from typing import Any

from llmwatch.measure.generation import Decoding, row_length
from llmwatch.sources.transformers.request import ends_of

PATIENCE = 0.001
"""Seconds that a copy from a device may take at most."""


def sequences_of(result: Any) -> Any:
    """The ids in what ``generate`` returned; None where it returned something else."""
    found = result if hasattr(result, "tolist") else getattr(result, "sequences", None)
    return found if len(getattr(found, "shape", ())) == 2 else None


def on_host(tensors: Sequence[Any]) -> list[Any] | None:
    """The tensors in the memory of the CPU; None where a device is busy with something else."""
    devices = {each.device for each in tensors if each.device.type != "cpu"}
    if not devices:
        return list(tensors)
    if any(device.type != "cuda" for device in devices):
        return None
    cuda = sys.modules["torch"].cuda
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    events = [cuda.current_stream(device).record_event() for device in devices]
    deadline = perf_counter() + PATIENCE
    while not all(event.query() for event in events):
        if perf_counter() > deadline:
            return None
    return copies


class Outcome:
    """How the sequences of one decoding loop ended.

    Args:
        loop: What was seen of the loop; the outputs are written on it.
        config: The ``GenerationConfig`` that was in force.
        criteria: The stopping criteria that were in force.
    """

    def __init__(self, loop: Decoding, config: Any, criteria: Sequence[Any]) -> None:
        self._loop = loop
        self._config = config
        self._start = loop.start or 0
        self._ends = ends_of(config)
        self._strings = [each for each in criteria if _kind(each) == "StopStringCriteria"]
        self._clocks = [each for each in criteria if _kind(each) == "MaxTimeCriteria"]
        self._custom = any(
            not type(each).__module__.startswith("transformers.") for each in criteria
        )

    def read(self, ids: Any) -> list[str]:
        """Count the output tokens of each row of *ids*, on the CPU, and say why it ended."""
        rows = ids[:, self._start :].tolist()
        found = [
            self._row(ids[index : index + 1], row, len(rows)) for index, row in enumerate(rows)
        ]
        self._loop.outputs = tuple(length for length, _ in found)
        return [reason for _, reason in found]

    def guess(self, ids: Any) -> list[str] | None:
        """The same for one sequence, from the shape of *ids* alone."""
        if ids.shape[0] != 1:
            return None
        length = ids.shape[1] - self._start
        self._loop.outputs = (length,)
        if self._full(length):
            return None  # its last token may be one that ends it all the same
        others = bool(self._strings) + self._custom + self._late
        return ["stop"] if self._ends and not others else None

    def _row(self, ids: Any, row: list[int], rows: int) -> tuple[int, str]:
        length, ended = row_length(row, self._ends)
        if ended:
            # Where padding looks like an end, a stop string may have come before.
            stopped = rows > 1 and self._stopped(ids, length - 1)
            return (length - 1, "stop_string") if stopped else (length, "stop")
        if rows > 1 and (self._strings or self._custom):
            length = _without_padding(row, getattr(self._config, "pad_token_id", None))
        if self._stopped(ids, length):
            return length, "stop_string"
        if self._full(length):
            return length, "length"
        if self._late:
            return length, "time"
        return length, "custom" if self._custom else "other"

    def _stopped(self, ids: Any, length: int) -> bool:
        seen = ids[:, : self._start + length]
        return length > 0 and any(bool(each(seen, None)) for each in self._strings)

    def _full(self, length: int) -> bool:
        most = getattr(self._config, "max_length", None)
        return isinstance(most, int) and self._start + length >= most

    @property
    def _late(self) -> bool:
        return any(time() - each.initial_timestamp > each.max_time for each in self._clocks)


def _kind(criterion: Any) -> str:
    return type(criterion).__name__


def _without_padding(row: list[int], padding: int | None) -> int:
    length = len(row)
    while length and row[length - 1] == padding:
        length -= 1
    return length
