"""Write the dashboards that llmwatch ships.

    python -m docs.dashboards [FOLDER]

Needs the dependency group ``tests``. Without a folder, it is ``llmwatch/dashboards``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.dashboards import drift_quality, gpu_host, local_models, requests
from docs.dashboards.board import encode

BOARDS = [requests.BOARD, local_models.BOARD, gpu_host.BOARD, drift_quality.BOARD]
SHIPPED = Path(__file__).parents[2] / "llmwatch" / "dashboards"


def main(folder: Path = SHIPPED) -> None:
    """Write one file a dashboard."""
    for board in BOARDS:
        (folder / f"{board.name}.json").write_text(encode(board))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
