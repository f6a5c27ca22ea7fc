"""*Local models*: what models that run in the watched processes do with their time."""

from __future__ import annotations

from docs.dashboards.board import Board
from docs.dashboards.panels import TOKEN_RATE, Panel, Row
from docs.dashboards.queries import (
    MODEL,
    OPERATION,
    buckets,
    level,
    or_zero,
    quantile,
    rate,
    ratio,
)
from llmwatch import semconv_layers as layers
from llmwatch import semconv_models as models
from llmwatch.rules.names import label, select
from llmwatch.semconv_layers import FINDING_METRICS, LAYER_METRICS
from llmwatch.semconv_models import GENERATION_METRICS, SERVER_METRICS
from llmwatch.semconv_tasks import TASK_METRICS

REQUEST, TTFT, TPOT = (
    SERVER_METRICS[key] for key in ("duration", "time_to_first_token", "time_per_output_token")
)
PREFILL, GAPS = GENERATION_METRICS["prefill_time"], GENERATION_METRICS["gaps"]
SLOTS, DRAFTS = GENERATION_METRICS["slots"], GENERATION_METRICS["drafts"]
SHARE, PASSES = LAYER_METRICS["share"], LAYER_METRICS["passes"]
FINDINGS = FINDING_METRICS["findings"]
BLOCK, LAYER, KIND, PHASE, SLOT, DRAFT = map(
    label,
    (
        layers.LAYER_BLOCK,
        layers.LAYER_NAME,
        layers.FINDING_KIND,
        layers.LAYER_PHASE,
        models.SLOT,
        models.DRAFT,
    ),
)
BY_MODEL = f"{{{{{MODEL}}}}}"
USEFUL, PADDING = ((*OPERATION, f'{SLOT}="{kind}"') for kind in ("useful", "padding"))
ACCEPTED = (*OPERATION, f'{DRAFT}="accepted"')


def waste(*by: str) -> str:
    """Share of the tokens that steps had room for which were padding."""
    every = rate(SLOTS, "", *by)
    return f"({or_zero(rate(SLOTS, '', *by, where=PADDING), every)}) / ({every} > 0)"


def accepted(*by: str) -> str:
    """Share of drafted tokens that the model agreed to."""
    every = rate(DRAFTS, "", *by)
    return f"({or_zero(rate(DRAFTS, '', *by, where=ACCEPTED), every)}) / ({every} > 0)"


def blocks(phase: str) -> str:
    """Share of the time of each block, by its number in three digits, so that 10 comes after 9."""
    chosen = select(SHARE, *OPERATION, f'{BLOCK}!=""', f'{PHASE}=~"{phase}"')
    padded = f'label_replace({chosen}, "block", "00$1", "{BLOCK}", "([0-9])")'
    padded = f'label_replace({padded}, "block", "0$1", "{BLOCK}", "([0-9]{{2}})")'
    padded = f'label_replace({padded}, "block", "$1", "{BLOCK}", "([0-9]{{3,}})")'
    return f"avg by ({MODEL}, block) (sum by (job, instance, {MODEL}, {PHASE}, block) ({padded}))"


def of_layer(name: str, how: str) -> str:
    """A number of each layer."""
    return level(FINDING_METRICS[name], how, MODEL, LAYER, where=OPERATION)


NOW = (
    Panel(
        kind="number",
        asks="How many requests a second?",
        tells="Requests that models in these processes ended, successful or not.",
        unit="reqps",
        queries=((rate(REQUEST, "count"), "requests"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How soon does the first token come?",
        tells="TTFT as the model sees it: 95 of 100 successful requests are faster.",
        unit="s",
        queries=((quantile(0.95, TTFT), "p95"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How many tokens are made a second?",
        tells="Useful tokens of all steps of decoding together.",
        unit=TOKEN_RATE,
        queries=((rate(SLOTS, "", where=USEFUL), "tokens"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How much of the batches is waste?",
        tells="Share of the tokens that steps had room for which were padding: rows of a batch "
        "that had already ended.",
        unit="percentunit",
        high=1,
        queries=((waste(), "padding"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How long is the gap between steps?",
        tells="ITL: 95 of 100 gaps between two steps of decoding are shorter.",
        unit="s",
        queries=((quantile(0.95, GAPS), "p95"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="Is anything odd about layers?",
        tells="Findings that are raised now about layers of watched models (`watch_layers`); "
        "which ones, see below.",
        unit="short",
        red_from=1,
        queries=(
            (
                or_zero(
                    level(FINDINGS, "sum", where=OPERATION), level(SHARE, "sum", where=OPERATION)
                ),
                "findings",
            ),
        ),
        width=4,
        height=5,
    ),
)

PHASES = (
    Panel(
        kind="stacked",
        asks="Where does the time go: prompts or tokens?",
        tells="Seconds a second that requests spend in prefill and in decoding; 2 means two "
        "requests at all times. Much prefill: long prompts, or few tokens for each.",
        unit="short",
        queries=((rate(PREFILL, "sum"), "prefill"), (rate(GAPS, "sum"), "decode")),
    ),
    Panel(
        asks="How long does the prompt take (prefill)?",
        tells="Time in which the prompt was processed, to the first token.",
        unit="s",
        queries=tuple(
            (quantile(q, PREFILL, MODEL), f"p{q * 100:g} {BY_MODEL}") for q in (0.5, 0.95)
        ),
        traces=True,
    ),
    Panel(
        asks="How fast are prompts read?",
        tells="Prompt tokens a second of prefill: the median of a model's requests.",
        unit=TOKEN_RATE,
        queries=((quantile(0.5, GENERATION_METRICS["prefill_rate"], MODEL), BY_MODEL),),
    ),
    Panel(
        asks="How long is the gap between steps (ITL)?",
        tells="Time between two successive steps of decoding. A step gives each sequence of a "
        "batch one token; in speculative modes several.",
        unit="s",
        queries=tuple(
            (quantile(q, GAPS, MODEL), f"p{q * 100:g} {BY_MODEL}") for q in (0.5, 0.95, 0.99)
        ),
        traces=True,
    ),
    Panel(
        asks="How fast does a request decode?",
        tells="Useful tokens a second of decoding, of all sequences of a request together: the "
        "median of a model's requests, and what 5 of 100 fall short of.",
        unit=TOKEN_RATE,
        queries=tuple(
            (quantile(q, GENERATION_METRICS["decode_rate"], MODEL), f"p{q * 100:g} {BY_MODEL}")
            for q in (0.5, 0.05)
        ),
    ),
    Panel(
        asks="How soon does the first token come, by model?",
        tells="TTFT: 95 of 100 successful requests to a model are faster.",
        unit="s",
        queries=((quantile(0.95, TTFT, MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How long do requests wait for their turn?",
        tells="Time in the queue of continuous batching before a model began with a request.",
        unit="s",
        queries=((quantile(0.95, TASK_METRICS["queue_time"], MODEL), f"p95 {BY_MODEL}"),),
    ),
    Panel(
        kind="distribution",
        asks="How do gaps between steps spread?",
        tells="How many gaps fell within each bucket. Two bands: steps that wait for something, "
        "such as the prompt of another request.",
        unit="s",
        queries=((buckets(GAPS), "{{le}}"),),
    ),
    Panel(
        asks="How fast are other tasks served?",
        tells="Inputs (texts, pictures) a second of requests that are not generation: the median "
        "of a model's requests.",
        unit="suffix: inputs/s",
        queries=((quantile(0.5, TASK_METRICS["input_rate"], MODEL), BY_MODEL),),
    ),
)

BATCHES = (
    Panel(
        asks="How much of the batches is waste, by model?",
        tells="Share of the tokens that steps had room for which were padding. Batch requests of "
        "like lengths, or use continuous batching.",
        unit="percentunit",
        high=1,
        queries=((waste(MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        kind="stacked",
        asks="What are steps filled with?",
        tells="Tokens a second that steps had room for: useful, or padding.",
        unit=TOKEN_RATE,
        queries=((rate(SLOTS, "", SLOT), f"{{{{{SLOT}}}}}"),),
    ),
    Panel(
        asks="Does drafting pay?",
        tells="Share of the tokens drafted in speculative modes that the model agreed to. Low: "
        "the drafts cost more than they save.",
        unit="percentunit",
        high=1,
        queries=((accepted(MODEL), BY_MODEL),),
    ),
    Panel(
        asks="How large do key-value caches get?",
        tells="Size of a request's key-value cache at its end.",
        unit="bytes",
        queries=tuple(
            (quantile(q, GENERATION_METRICS["cache_bytes"], MODEL), f"p{q * 100:g} {BY_MODEL}")
            for q in (0.5, 0.95)
        ),
    ),
)

LAYERS = (
    Panel(
        kind="rows",
        asks="Which blocks take the time of prompts?",
        tells="Share of the time of sampled prefills (and plain forwards) that each repeated "
        "block took, blocks from first to last. All rows alike is what to expect.",
        unit="percentunit",
        queries=((blocks("prefill|forward"), f"{BY_MODEL} {{{{block}}}}"),),
        width=12,
        height=12,
    ),
    Panel(
        kind="rows",
        asks="Which blocks take the time of tokens?",
        tells="The same of sampled steps of decoding.",
        unit="percentunit",
        queries=((blocks("decode"), f"{BY_MODEL} {{{{block}}}}"),),
        width=12,
        height=12,
    ),
    Panel(
        kind="bars",
        asks="Which layers take most of the time?",
        tells="Share of the time of all sampled passes, without the layers inside of a layer: the "
        "fifteen that take most, since watching began.",
        unit="percentunit",
        queries=(
            (
                f"topk(15, avg by ({MODEL}, {LAYER}) ({select(SHARE, *OPERATION)}))",
                f"{BY_MODEL} {{{{{LAYER}}}}}",
            ),
        ),
        width=12,
        height=10,
    ),
    Panel(
        asks="How long does one call of a layer take?",
        tells="Mean of sampled calls, the layers inside included: the ten longest.",
        unit="s",
        queries=(
            (
                "topk(10, "
                + ratio(
                    rate(layers.DURATION, "sum", MODEL, LAYER, PHASE),
                    rate(layers.DURATION, "count", MODEL, LAYER, PHASE),
                )
                + ")",
                f"{BY_MODEL} {{{{{LAYER}}}}} {{{{{PHASE}}}}}",
            ),
        ),
        width=12,
        height=10,
    ),
)

ODD = (
    Panel(
        kind="rows",
        asks="Which findings are raised?",
        tells="Findings about the layers of a model, by kind, red while raised; the event "
        "`llmwatch.layer.finding.raised` says which layer, and the evidence.",
        unit="short",
        red_from=1,
        queries=(
            (level(FINDINGS, "sum", MODEL, KIND, where=OPERATION), f"{BY_MODEL} {{{{{KIND}}}}}"),
        ),
    ),
    Panel(
        asks="Do numbers get too large?",
        tells="Largest magnitude in the output of a layer over the largest number of its dtype: "
        "at 1 it overflows. By `watch_layers(numbers=True)`; the ten largest.",
        unit="percentunit",
        high=1,
        queries=(
            (
                f"topk(10, {of_layer('range_used', 'max')})",
                f"{BY_MODEL} {{{{{LAYER}}}}}",
            ),
        ),
    ),
    Panel(
        asks="Do layers put out NaN or infinity?",
        tells="Share of the latest sampled forwards in which a layer did so. By "
        "`watch_layers(numbers=True)`.",
        unit="percentunit",
        high=1,
        red_from=1e-9,
        queries=(
            (
                of_layer("broken", "max"),
                f"{BY_MODEL} {{{{{LAYER}}}}}",
            ),
        ),
    ),
    Panel(
        asks="Which layers change nothing?",
        tells="Mean cosine between the input and the output of a layer: near 1, it does almost "
        "nothing. By `watch_layers(numbers=True)`.",
        unit="none",
        low=-1,
        high=1,
        queries=(
            (
                of_layer("cosine", "avg"),
                f"{BY_MODEL} {{{{{LAYER}}}}}",
            ),
        ),
    ),
    Panel(
        asks="How many passes are sampled?",
        tells="Forward and backward passes a second whose layers were timed; the rest costs next "
        "to nothing, and is not in the pictures above.",
        unit="ops",
        queries=((rate(PASSES, "", MODEL, PHASE), f"{BY_MODEL} {{{{{PHASE}}}}}"),),
    ),
)

BOARD = Board(
    name="local-models",
    title="llmwatch: local models",
    tells="What models that run in the watched processes do with their time: prefill, decoding, "
    "batches, layers.",
    found_by=REQUEST,
    models_by=REQUEST,
    rows=(
        Row(title="Now", panels=NOW),
        Row(title="Prefill and decode", panels=PHASES),
        Row(title="Batches, drafts and caches", panels=BATCHES),
        Row(title="Layers", panels=LAYERS),
        Row(title="Findings", panels=ODD),
    ),
)
