"""Expressions for Prometheus, as panels use them; names come from `llmwatch.semconv`.

Each selects what the variables at the top of a dashboard say: the service is the label ``job`` and
the process ``instance``, whether Prometheus scraped it or it came by OTLP.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmwatch import semconv
from llmwatch.rules.names import label, select
from llmwatch.semconv import Metric

MODEL = label(semconv.REQUEST_MODEL)
ROUTE = label(semconv.ROUTE)

PROCESS = ('job=~"$service"', 'instance=~"$instance"')
"""What every series has."""
OPERATION = (*PROCESS, f'{MODEL}=~"$model"')
"""What series of operations have."""

Where = tuple[str, ...]


def rate(metric: Metric, part: str, *by: str, where: Where = OPERATION) -> str:
    """How much a second: of a counter (*part* is ``""``), or the count or sum of a histogram."""
    return f"sum{_by(by)} (rate({select(metric, *where, part=part)}[$__rate_interval]))"


def total(metric: Metric, part: str, *by: str, where: Where = OPERATION) -> str:
    """How much in the time that the dashboard shows."""
    return f"sum{_by(by)} (increase({select(metric, *where, part=part)}[$__range]))"


def quantile(share: float, metric: Metric, *by: str, where: Where = OPERATION) -> str:
    """Up to where a share of a histogram's values lies, by interpolation within a bucket."""
    return f"histogram_quantile({share:g}, {rate(metric, 'bucket', *by, 'le', where=where)})"


def mean(metric: Metric, *by: str, where: Where = OPERATION) -> str:
    """Mean of a histogram's values."""
    return ratio(rate(metric, "sum", *by, where=where), rate(metric, "count", *by, where=where))


def buckets(metric: Metric, where: Where = OPERATION) -> str:
    """A histogram over time, for a heat map."""
    return f"sum by (le) (increase({select(metric, *where, part='bucket')}[$__rate_interval]))"


def level(metric: Metric, how: str, *by: str, where: Where = PROCESS) -> str:
    """Gauges of several series as one: their ``sum``, ``max``, ``min`` or ``avg``."""
    return f"{how}{_by(by)} ({select(metric, *where)})"


def of_gpu(metric: Metric, *by: str, where: Where = PROCESS) -> str:
    """A gauge of each GPU: all processes that may use it report the same one."""
    return level(metric, "max", *GPU, *by, where=where)


def rate_of_gpu(metric: Metric, *by: str, where: Where = PROCESS) -> str:
    """The rate of a counter of each GPU."""
    return f"max{_by((*GPU, *by))} (rate({select(metric, *where)}[$__rate_interval]))"


GPU = ("hw_id", "hw_name")


def ratio(above: str, below: str) -> str:
    """One over the other; nothing where both are zero."""
    return f"{above} / ({below} > 0)"


def or_zero(expression: str, known: str) -> str:
    """Zero for what was never counted, but only where *known* says that somebody counts.

    Beside a gauge, *known* is one too: a scrape that failed leaves gaps in gauges, not in rates.
    """
    return f"{expression} or 0 * {known}"


def _by(labels: Iterable[str]) -> str:
    names = ", ".join(labels)
    return f" by ({names})" if names else ""
