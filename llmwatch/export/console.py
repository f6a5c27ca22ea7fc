"""One line on stderr for each call, for a human who watches a program run.

``LLMWATCH_CONSOLE=1`` or ``console=True``. The fields, each left out where it is unknown:

    llmwatch chat gpt-4o-mini  1.24 s  first 310 ms  12→85 tok  68.5 tok/s  $0.0000528
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TextIO

from llmwatch.measure.record import OperationRecord, Usage
from llmwatch.signals.operation import Operation


class Console:
    """A `signals.operation.Listener` that prints.

    Args:
        out: Where to; None: whatever `sys.stderr` is at the time.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out

    def started(self, operation: Operation) -> None:
        """Nothing is printed before the end."""

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        """Print the line. Cost: about 10 µs and one write."""
        out = sys.stderr if self._out is None else self._out
        if out is not None:  # there is none under pythonw
            out.write(line(record) + "\n")
            out.flush()


def line(record: OperationRecord) -> str:
    """The text for one finished operation; control characters in names are replaced."""
    series = record.series
    model = series.response_model or series.request_model
    head = f"llmwatch {series.operation} {model or '-'}"
    text = "  ".join([head, *_numbers(record), *_failure(series.error_type)])
    return "".join(character if character.isprintable() else "?" for character in text)


def _numbers(record: OperationRecord) -> Iterator[str]:
    yield _time(record.duration)
    first = record.timing.time_to_first_chunk if record.timing is not None else None
    if first is not None:
        yield f"first {_time(first)}"
    if record.usage is not None:
        yield from _tokens(record.usage)
    if record.output_token_rate is not None:
        yield f"{record.output_token_rate:.1f} tok/s"
    if record.cost is not None:
        yield _dollars(record.cost)


def _dollars(cost: float) -> str:
    if 0 < cost < 1e-7:  # the embedding of one word: little, but not nothing
        return "<$0.0000001"
    return f"${cost:.7f}".rstrip("0").rstrip(".")


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _tokens(usage: Usage) -> Iterator[str]:
    if usage.input_tokens is None and usage.output_tokens is None:
        return
    about = "~" if usage.estimated else ""
    into = "?" if usage.input_tokens is None else usage.input_tokens
    out = "" if usage.output_tokens is None else f"→{about}{usage.output_tokens}"
    yield f"{into}{out} tok"


def _failure(error_type: str | None) -> Iterator[str]:
    if error_type is not None:
        yield f"failed: {error_type}"
