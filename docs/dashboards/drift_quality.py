"""*Drift and quality*: whether inputs are still what they were, and how good answers are."""

from __future__ import annotations

from docs.dashboards.board import Board
from docs.dashboards.panels import TOKENS, Panel, Row
from docs.dashboards.queries import (
    MODEL,
    PROCESS,
    buckets,
    level,
    quantile,
    rate,
    ratio,
)
from docs.dashboards.requests import DURATION, OUT, USAGE, failing
from llmwatch import semconv
from llmwatch.rules.names import label
from llmwatch.semconv import DRIFT_HISTOGRAMS, DRIFT_METRICS
from llmwatch.semconv_models import GENERATION_METRICS

MONITOR, KEY, STATISTIC, REASON = map(
    label,
    (semconv.DRIFT_MONITOR, semconv.DRIFT_KEY, semconv.DRIFT_STATISTIC, semconv.DRIFT_REASON),
)
WATCHED = (*PROCESS, f'{MONITOR}=~"$monitor"')
VERDICT = (*WATCHED, f'{STATISTIC}="all"')
SERIES = f"{{{{{MONITOR}}}}} {{{{{KEY}}}}} {{{{instance}}}}"
ALARM, P, RESIDUAL = DRIFT_METRICS["alarm"], DRIFT_METRICS["p_value"], DRIFT_HISTOGRAMS["residual"]
BY_MODEL = f"{{{{{MODEL}}}}}"
LEAST_P = 1e-9
PERPLEXITY = GENERATION_METRICS["perplexity"]


def each(name: str) -> tuple[tuple[str, str], ...]:
    """A number of every monitor, key and process."""
    return ((level(DRIFT_METRICS[name], "max", MONITOR, KEY, "instance", where=WATCHED), SERIES),)


def visible(p_value: str) -> str:
    """A p-value that a logarithmic axis can show: those of great drifts are far below it, or 0."""
    return f"clamp_min({p_value}, {LEAST_P:g})"


NOW = (
    Panel(
        kind="number",
        asks="How many drift alarms are raised?",
        tells="Monitors (and keys of them: routes, tenants) in whose embeddings a difference from "
        "the reference was found, at the rate of false alarms that each was given.",
        unit="short",
        red_from=1,
        queries=((level(ALARM, "sum", where=WATCHED), "alarms"),),
        width=6,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How unlikely is the worst window?",
        tells="Smallest p-value of the latest windows: how often a window from where the "
        "reference came from would differ as much. One small value among many looks is no alarm.",
        unit="none",
        high=1,
        queries=((level(P, "min", where=VERDICT), "p"),),
        width=6,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How many embeddings are looked at?",
        tells="A second, by all monitors. 0: nothing is watched, whatever else this page says.",
        unit="cps",
        queries=((rate(DRIFT_METRICS["embeddings"], "", where=WATCHED), "embeddings"),),
        width=6,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How sure are models of their tokens?",
        tells="Perplexity of local generation: 1 is certain; the median of requests. Needs the "
        "setting `confidence`.",
        unit="none",
        low=1,
        queries=((quantile(0.5, PERPLEXITY), "perplexity"),),
        width=6,
        height=5,
    ),
)

DRIFT = (
    Panel(
        kind="rows",
        asks="When was which alarm raised?",
        tells="Red while the alarm of a monitor is raised.",
        unit="short",
        high=1,
        red_from=1,
        queries=each("alarm"),
    ),
    Panel(
        asks="How unlikely is the latest window?",
        tells="p-value of the latest window: of 100 windows from where the reference came from, "
        "one is below 0.01. An alarm takes two in a row below the monitor's `false_alarm`. What is "
        "smaller than a billionth lies on the lower edge.",
        unit="none",
        low=LEAST_P,
        high=1,
        logarithmic=True,
        queries=((visible(level(P, "min", MONITOR, KEY, "instance", where=VERDICT)), SERIES),),
    ),
    Panel(
        asks="How large is the difference?",
        tells="The larger of the share of foreign items and the shift of the mean, as a share of "
        "the reference's radius: above 100% the mean moved further than that. A p-value says "
        "whether, this says how much.",
        unit="percentunit",
        queries=each("effect"),
    ),
    Panel(
        asks="What differs?",
        tells="Smallest p-value of each test: `centroid` (the mean moved), `mahalanobis` (it "
        "moved in an unusual direction), `residual_tail` (items unlike any of the reference).",
        unit="none",
        low=LEAST_P,
        high=1,
        logarithmic=True,
        queries=(
            (
                visible(
                    level(P, "min", MONITOR, STATISTIC, where=(*WATCHED, f'{STATISTIC}!="all"'))
                ),
                f"{{{{{MONITOR}}}}} {{{{{STATISTIC}}}}}",
            ),
        ),
    ),
    Panel(
        asks="How far did the mean move?",
        tells="Distance of the latest window's mean from the reference's, as a share of the "
        "reference's radius.",
        unit="percentunit",
        queries=each("centroid"),
    ),
    Panel(
        asks="How unusual is that direction?",
        tells="Mahalanobis distance of that mean: in units of how far means of windows usually "
        "are.",
        unit="none",
        queries=each("mahalanobis"),
    ),
    Panel(
        kind="distribution",
        asks="How foreign are embeddings?",
        tells="How far outside the reference's main directions embeddings lie, in the buckets of "
        "each reference: choose one monitor. More in the upper rows than before: foreign items.",
        unit="none",
        queries=(
            (
                buckets(RESIDUAL, where=WATCHED),
                "{{le}}",
            ),
        ),
    ),
    Panel(
        asks="How many embeddings come, by monitor?",
        tells="Embeddings a second that a monitor took.",
        unit="cps",
        queries=(
            (
                rate(DRIFT_METRICS["embeddings"], "", MONITOR, KEY, where=WATCHED),
                f"{{{{{MONITOR}}}}} {{{{{KEY}}}}}",
            ),
        ),
    ),
    Panel(
        asks="Which embeddings cannot be used?",
        tells="Embeddings a second that a monitor refused, by reason: `nan`, `inf`, `zero`, "
        "`dimension`, …",
        unit="cps",
        red_from=1e-9,
        queries=(
            (
                rate(DRIFT_METRICS["invalid"], "", MONITOR, REASON, where=WATCHED),
                f"{{{{{MONITOR}}}}} {{{{{REASON}}}}}",
            ),
        ),
    ),
    Panel(
        asks="How old are references?",
        tells="Time since a reference was fitted. The older, the more of what is found is the "
        "world that moved on.",
        unit="s",
        queries=(
            (
                level(DRIFT_METRICS["reference_age"], "max", MONITOR, where=WATCHED),
                f"{{{{{MONITOR}}}}}",
            ),
        ),
        width=12,
    ),
    Panel(
        asks="How much does a window tell?",
        tells="How many items of the latest window tell as much as one independent item: at 5, a "
        "window of 500 counts as 100.",
        unit="none",
        queries=each("dependence"),
        width=12,
    ),
)

QUALITY = (
    Panel(
        asks="How sure are models of their tokens, by model?",
        tells="Perplexity of local generation: median, and what 5 of 100 requests exceed. A rise "
        "says that prompts are unlike what the model knows. Needs the setting `confidence`.",
        unit="none",
        low=1,
        queries=tuple(
            (quantile(q, PERPLEXITY, MODEL), f"p{q * 100:g} {BY_MODEL}") for q in (0.5, 0.95)
        ),
        traces=True,
    ),
    Panel(
        asks="How long are answers?",
        tells="Mean of output tokens of a call, by model. A jump after a change of prompt or "
        "model is a change in quality before it is one in cost.",
        unit=TOKENS,
        queries=(
            (
                ratio(rate(USAGE, "sum", MODEL, where=OUT), rate(USAGE, "count", MODEL, where=OUT)),
                BY_MODEL,
            ),
        ),
        traces=True,
    ),
    Panel(
        asks="What share of calls fails, by model?",
        tells="Calls that failed over all calls of a model: refusals of the server, timeouts, "
        "exceptions.",
        unit="percentunit",
        high=1,
        queries=((failing(MODEL), BY_MODEL),),
        traces=True,
    ),
)

BOARD = Board(
    name="drift-quality",
    title="llmwatch: drift and quality",
    tells="Whether embeddings still come from where references came from, and how answers change.",
    found_by=DURATION,
    models_by=DURATION,
    more=(("monitor", DRIFT_METRICS["embeddings"], MONITOR),),
    rows=(
        Row(title="Now", panels=NOW),
        Row(title="Drift of embeddings", panels=DRIFT),
        Row(title="Quality of answers", panels=QUALITY),
    ),
)
