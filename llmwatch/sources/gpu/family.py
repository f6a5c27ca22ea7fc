"""Which processes are this one's: itself and its descendants."""

from __future__ import annotations

import os
from pathlib import Path


def is_ours(pid: int) -> bool:
    """True for this process and its descendants, as far as the system tells who the parent is.

    Cost: nothing for this process; for another one file a generation, 15 µs each.
    """
    ours = os.getpid()
    seen = 0
    while pid > 0 and seen < 64:  # a pid may be given away again while we look
        if pid == ours:
            return True
        pid = _parent(pid)
        seen += 1
    return False


def is_here(pid: int) -> bool:
    """False for a process that has ended, or that this container cannot see under this number."""
    return Path(f"/proc/{pid}").exists()


def _parent(pid: int) -> int:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
        return int(line.rpartition(b")")[2].split()[1])  # the name before it may hold anything
    except (OSError, ValueError, IndexError):
        return 0
