"""Fake drivers under the real binding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

import llmwatch
from llmwatch.sources.gpu.nvidia import Nvidia
from tests.fake_nvml import Driver, build, can_build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake ``libnvidia-ml.so.1``."""
    if not can_build():
        pytest.skip("needs gcc and the package nvidia-nvml-dev")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a driver that lacks newer symbols."""
    if not can_build():
        pytest.skip("needs gcc and the package nvidia-nvml-dev")
    return build(tmp_path_factory.mktemp("old-nvml"), "-DOLD_DRIVER")


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A machine without GPUs, whose driver the binding has loaded."""
    monkeypatch.setenv("FAKE_NVML_SCRIPT", str(tmp_path / "script"))
    monkeypatch.setenv("FAKE_NVML_LOG", str(tmp_path / "log"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    load(library, monkeypatch)
    yield Driver(tmp_path / "script")
    llmwatch.uninstrument()
    opened = log(tmp_path)
    assert opened.count("init") == opened.count("shutdown")


@pytest.fixture
def probe(driver: Driver) -> Iterator[Nvidia]:
    """The probe under test."""
    probe = Nvidia()
    yield probe
    probe.close()


def load(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the binding use this library: it keeps the first one for the life of the process."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


def log(folder: Path) -> list[str]:
    """What the library was told to do so far: ``init``, ``shutdown``."""
    path = folder / "log"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []
