"""What the tests of layers share: one thread for torch, and nothing of ours left in any model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import pytest
import torch

from llmwatch.sources.torch_layers import registry
from llmwatch.sources.torch_layers.watcher import LayerWatcher, watch_layers


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_watchers() -> Iterator[None]:
    yield
    for watcher in registry.living():
        watcher.close()
    held, registry.turn = registry.turn, Lock()
    assert not held.locked(), "a forward is still being sampled"


@pytest.fixture
def watch() -> Callable[..., LayerWatcher]:
    """Watch every forward of a model, its times alone."""

    def watching(model: Any, layers: Any = "all", **more: Any) -> LayerWatcher:
        return watch_layers(model, layers, **{"every": 1, "flops": False, **more})

    return watching
