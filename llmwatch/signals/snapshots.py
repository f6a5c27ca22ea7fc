"""Copies of embeddings that a model in this process made.

The copy is taken at once, where the embeddings are: whoever owns them may change them as soon as
they have them. It is read later, on a worker. A tensor on a GPU is copied on the GPU, in the order
of the stream that made it: the caller waits for nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

Snapshot = Callable[[], Any]
"""Gives the copied rows, as something that numpy reads; to be called off the caller's thread."""


def rows_of(matrix: Any, rows: Sequence[int] | None) -> Snapshot:
    """Copy rows of a numpy array, a torch tensor or a list of tensors.

    Args:
        matrix: Shape ``(n, d)``, or ``n`` tensors of shape ``(d,)``.
        rows: Which rows; None: all of them.

    Cost: 2 µs and the copy of an array; of a tensor also 1 µs for each chosen row. Never a
    synchronisation with the device.
    """
    if isinstance(matrix, list) or hasattr(matrix, "detach"):
        return _of_tensors(matrix, rows)
    copied = matrix.copy() if rows is None else matrix[list(rows)]
    return lambda: copied


def _of_tensors(matrix: Any, rows: Sequence[int] | None) -> Snapshot:
    torch = sys.modules["torch"]
    with torch.no_grad():
        if rows is None and not isinstance(matrix, list):
            copied = matrix.clone()
        else:
            # Not by an index: moving one to the device would wait for what the device is at.
            chosen = range(len(matrix)) if rows is None else rows
            copied = torch.stack([matrix[row] for row in chosen])
    done = None
    if copied.is_cuda:
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(copied.device))

    def read() -> Any:
        if done is not None:  # the worker's stream is not the one that copied
            done.synchronize()
        return copied.float().cpu().numpy()

    return read
