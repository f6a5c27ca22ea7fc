"""Which process of a distributed run this is: read when needed, for the group is made late."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from llmwatch import semconv_layers as names

if TYPE_CHECKING:
    from llmwatch.signals.readings import Dimensions


def rank_attributes() -> Dimensions:
    """Rank and world size of the default process group, if there is one. Loads nothing."""
    module: Any = sys.modules.get("torch.distributed")
    if module is None or not module.is_available() or not module.is_initialized():
        return ()
    return (
        (names.RANK, module.get_rank()),
        (names.WORLD_SIZE, module.get_world_size()),
    )
