"""What metrics and attributes are called in Prometheus.

Two translations are met: that of OpenTelemetry's exporter for Python, and that of collectors and of
Prometheus' own OTLP receiver. They differ for gauges of unit 1: the latter append ``_ratio``.
"""

from __future__ import annotations

import re
from typing import Final

from llmwatch.semconv import Metric

UNITS: Final = {
    "s": "seconds",
    "By": "bytes",
    "J": "joules",
    "W": "watts",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
}
PER_UNITS: Final = {"s": "second"}


def label(attribute: str) -> str:
    """The label that an attribute becomes."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", attribute)


def exposed(metric: Metric) -> str:
    """The name of a metric; a histogram's series append ``_bucket``, ``_sum`` and ``_count``."""
    name, unit = re.sub(r"[^a-zA-Z0-9:]+", "_", metric.name), _unit(metric.unit)
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind in ("counter", "observable_counter") else name


def select(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector of the series of a metric, whichever way they came.

    Args:
        metric: What is selected.
        matchers: Conditions on labels, such as ``error_type!=""``.
        part: Of a histogram: ``bucket``, ``sum`` or ``count``.
    """
    name = exposed(metric) + (f"_{part}" if part else "")
    if metric.kind == "observable_gauge" and metric.unit == "1":
        return _braced(f'__name__=~"{name}(_ratio)?"', *matchers)
    return name + _braced(*matchers)


def select_any(names: list[str], *matchers: str) -> str:
    """A selector of the series of several names."""
    if len(names) == 1:
        return names[0] + _braced(*matchers)
    alternatives = "|".join(names)
    return _braced(f'__name__=~"{alternatives}"', *matchers)


def _braced(*matchers: str) -> str:
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def _unit(unit: str) -> str:
    unit = re.sub(r"{.*?}", "", unit)
    if unit in UNITS:
        return UNITS[unit]
    top, _, bottom = unit.partition("/")
    if not bottom:  # of J/{token} is left what the exporter does not translate
        return top
    top = UNITS.get(top, top)
    return "_".join(filter(None, (top, "per", PER_UNITS.get(bottom, bottom))))
