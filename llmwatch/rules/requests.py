"""Throughput that collapses, and money that is spent too fast."""

from __future__ import annotations

from collections.abc import Iterator

from llmwatch import semconv
from llmwatch.rules.names import label, select
from llmwatch.rules.rule import PERCENT, PRECISE, Alert, Group, Record
from llmwatch.rules.values import Values, by, seconds, who
from llmwatch.semconv import CONVENTION_METRICS, OWN_METRICS


def groups(values: Values) -> Iterator[Group]:
    """Throughput, cost."""
    yield Group("llmwatch-throughput", tuple(_throughput(values)))
    yield Group("llmwatch-cost", tuple(_cost(values)))


def _throughput(values: Values) -> Iterator[Record | Alert]:
    """Operations that hang never end, and so are in no histogram; but they are in flight."""
    window, baseline = values["throughput.window"], values["throughput.baseline"]
    labels = by(values, "service", "model")
    active, tokens = (
        f"llmwatch:operations_active:avg{window}",
        f"llmwatch:output_tokens:rate{window}",
    )
    yield Record(
        active,
        f"sum by ({labels}) (avg_over_time({select(OWN_METRICS['active'])}[{window}]))",
        f"Operations in flight, on average over {window}.",
    )
    yield Record(
        tokens,
        f"sum by ({labels}) (rate({_output_tokens(values)}[{window}])) or {active} * 0",
        f"Output tokens a second in {window}; 0 where operations are in flight and none ends.",
    )
    yield Record(
        f"llmwatch:operations_active:avg{baseline}",
        f"avg_over_time({active}[{baseline}] offset {window})",
        f"Operations in flight, on average over the {baseline} before.",
    )
    yield Record(
        f"llmwatch:output_tokens:rate{baseline}",
        f"avg_over_time({tokens}[{baseline}] offset {window})",
        f"Output tokens a second, on average over the {baseline} before.",
    )
    yield _collapse(values, window, baseline)


def _collapse(values: Values, window: str, baseline: str) -> Alert:
    active, tokens = "llmwatch:operations_active:avg", "llmwatch:output_tokens:rate"
    share = f"{values['throughput.share']:g}"
    return Alert(
        name="LlmwatchThroughputCollapse",
        severity="page",
        expr=(
            f"{tokens}{window} / {tokens}{baseline} < {share}\n"
            f"and ({tokens}{window} / {active}{window})\n"
            f"  / ({tokens}{baseline} / {active}{baseline}) < {share}\n"
            f"and {active}{window} >= {values['throughput.least']:g}"
        ),
        hold=values["throughput.for"],
        summary=f"{who(values, 'service', 'model')}: hardly any tokens come any more",
        description=f"Output tokens a second of the last {window} are {PERCENT} of those of the "
        f"{baseline} before, in all and for each operation in flight, of which there are some.",
    )


def _output_tokens(values: Values) -> str:
    metrics = CONVENTION_METRICS[values["semconv"]]
    if "output_tokens" in metrics:
        return select(metrics["output_tokens"])
    kind = f'{label(semconv.TOKEN_TYPE)}="output"'
    return select(metrics["token_usage"], kind, part="sum")


def _cost(values: Values) -> Iterator[Record | Alert]:
    window, burn_window = values["cost.window"], values["cost.burn_window"]
    budget, rate = float(values["cost.budget"]), float(values["cost.burn_rate"])
    spent = select(OWN_METRICS["cost"], part="sum")
    for each in (burn_window, window):
        yield Record(
            f"llmwatch:cost_usd:increase{each}",
            f"sum by ({by(values, 'service')}) (increase({spent}[{each}]))",
            f"US dollars spent in {each}.",
        )
    limit = rate * budget * seconds(burn_window) / seconds(window)
    yield Alert(
        name="LlmwatchCostBudgetBurn",
        severity="page",
        expr=f"llmwatch:cost_usd:increase{burn_window} > {limit:.12g}",
        summary=f"{who(values, 'service')} spends money too fast",
        description=f"{PRECISE} USD in {burn_window}: more than {rate:g} times what a budget of "
        f"{budget:g} USD in {window} allows.",
    )
    yield Alert(
        name="LlmwatchCostBudgetSpent",
        severity="ticket",
        expr=f"llmwatch:cost_usd:increase{window} > {budget:.12g}",
        summary=f"{who(values, 'service')} has spent its budget",
        description=f"{PRECISE} USD in {window}, of a budget of {budget:g} USD.",
    )
