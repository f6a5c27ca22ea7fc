"""What a local model is called, by where it was loaded from."""

from __future__ import annotations

import re

_SNAPSHOT = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]")


def name_of(origin: str) -> str:
    """A model's name on the hub, or of a path the last part: the rest tells of the machine.

    Args:
        origin: A name on the hub, a path, or a path in the hub's cache.
    """
    if snapshot := _SNAPSHOT.search(origin):
        return snapshot[1].replace("--", "/")
    path = origin.replace("\\", "/").rstrip("/")
    if path.count("/") > 1 or path.startswith(("/", ".", "~")):
        return path.rpartition("/")[2]
    return path
