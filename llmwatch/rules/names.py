"""What metrics and attributes are called in Prometheus.

Two translations are met: that of OpenTelemetry's exporter for Python, and that of collectors and of
Prometheus' own OTLP receiver. They differ for gauges of unit 1, to which the latter append
``_ratio``, and for units such as ``J/{token}``.
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
SUMS: Final = ("counter", "observable_counter")


def label(attribute: str) -> str:
    """The label that an attribute becomes."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", attribute)


def exposed(metric: Metric) -> str:
    """The name of a metric; a histogram's series append ``_bucket``, ``_sum`` and ``_count``."""
    name, unit = re.sub(r"[^a-zA-Z0-9:]+", "_", metric.name), _unit(metric.unit)
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind in SUMS else name


def received(metric: Metric) -> str:
    """The name that collectors and Prometheus' own receiver of OTLP give to a metric."""
    main, _, per = metric.unit.partition("/")
    units = "" if "{" in main else UNITS.get(main, main), "" if "{" in per else _per(per)
    words = re.findall(r"[a-zA-Z0-9:]+", metric.name)
    words += [unit for unit in units if unit and unit not in words]
    end = ""
    if metric.kind in SUMS:
        end = "total"
    elif metric.kind == "observable_gauge" and metric.unit == "1":
        end = "ratio"
    if end:
        words = [*(word for word in words if word != end), end]
    return "_".join(words)


def select(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector of the series of a metric, whichever way they came.

    Args:
        metric: What is selected.
        matchers: Conditions on labels, such as ``error_type!=""``.
        part: Of a histogram: ``bucket``, ``sum`` or ``count``.
    """
    name, other = exposed(metric), received(metric)
    if other == f"{name}_ratio":
        return _braced(f'__name__=~"{name}(_ratio)?"', *matchers)
    part = f"_{part}" if part else ""
    return select_any([f"{each}{part}" for each in dict.fromkeys((name, other))], *matchers)


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
    return "_".join(filter(None, (UNITS.get(top, top), _per(bottom))))


def _per(unit: str) -> str:
    return f"per_{PER_UNITS.get(unit, unit)}" if unit else ""
