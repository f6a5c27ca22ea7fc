"""The table of the page on overhead: what was measured, against what, where and when."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

PARTS = ("A call", "A stream", "Other work", "A process", "Inside")
"""Headings, in the order of the page."""
PACKAGES = ("llmwatch-otel", "openai", "opentelemetry-sdk", "wrapt")


class Row(NamedTuple):
    """One figure."""

    part: str
    what: str
    value: str
    """With its unit."""
    baseline: str
    """What it is compared with in the same run, and the value of that."""
    judged: float
    """What is judged: a ratio, where *unit* says nothing else."""
    most: float
    """Above this the benchmark fails."""
    unit: str = ""


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def number_of_bytes(value: float) -> str:
    """An amount of memory in KiB."""
    return f"{value / 1024:.0f} KiB"


def written(rows: Iterable[Row]) -> str:
    """The whole table, as Markdown."""
    when, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    lines = [f"Measured {when} on {_machine()}, Python {python}, {_versions()}."]
    ordered = sorted(rows, key=lambda row: PARTS.index(row.part))
    for part in dict.fromkeys(row.part for row in ordered):
        lines += [
            "",
            f"| {part} | figure | measured against | ratio | fails above |",
            "| --- | --- | --- | --- | --- |",
            *(_line(row) for row in ordered if row.part == part),
        ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    judged, most = (f"{each:.3g}{row.unit}" for each in (row.judged, row.most))
    return f"| {row.what} | {row.value} | {row.baseline} | {judged} | {most} |"


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            processor = value.strip()
    return f"{processor} ({os.cpu_count()} CPUs, {platform.system()})"


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
