"""Names of what is said about the layers of models in this process: `semconv` for layers."""

from __future__ import annotations

from typing import Final

from llmwatch.semconv import Metric

# --- attributes ----------------------------------------------------------------------------------

LAYER_NAME: Final = "llmwatch.layer.name"
LAYER_TYPE: Final = "llmwatch.layer.type"
LAYER_BLOCK: Final = "llmwatch.layer.block"
LAYER_PHASE: Final = "llmwatch.layer.phase"
LAYER_DEVICE: Final = "llmwatch.layer.device"
LAYER_SELF_TIME: Final = "llmwatch.layer.self_time"
RANK: Final = "llmwatch.rank"
WORLD_SIZE: Final = "llmwatch.world_size"

FINDING_KIND: Final = "llmwatch.layer.finding.kind"
FINDING_VALUE: Final = "llmwatch.layer.finding.value"
FINDING_THRESHOLD: Final = "llmwatch.layer.finding.threshold"
FINDING_TEXT: Final = "llmwatch.layer.finding.text"
FINDING_EVIDENCE: Final = "llmwatch.layer.finding.evidence"

# --- events --------------------------------------------------------------------------------------

EVENT_FINDING_RAISED: Final = "llmwatch.layer.finding.raised"
EVENT_FINDING_CLEARED: Final = "llmwatch.layer.finding.cleared"

# --- metrics -------------------------------------------------------------------------------------

LAYER_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9)
    for exponent in range(-6, 1)
    for base in (1.0, 1.6, 2.5, 4.0, 6.3)
)
"""Seconds, 1 µs to 6.3 s, five a decade."""

DURATION: Final = Metric(
    "llmwatch.layer.duration",
    "s",
    "histogram",
    "Time of one call of a layer in a sampled forward or backward pass.",
    LAYER_BUCKETS,
)

LAYER_METRICS: Final[dict[str, Metric]] = {
    "share": Metric(
        "llmwatch.layer.share",
        "1",
        "observable_gauge",
        "Time of a layer, without the layers in it, over the time of all sampled passes.",
    ),
    "passes": Metric(
        "llmwatch.layer.passes",
        "{pass}",
        "observable_counter",
        "Forward and backward passes that were sampled.",
    ),
    "given_up": Metric(
        "llmwatch.layer.given_up",
        "{pass}",
        "observable_counter",
        "Sampled passes whose times an accelerator never told.",
    ),
}
"""What is read from the watchers whenever metrics are collected."""

FINDING_METRICS: Final[dict[str, Metric]] = {
    "findings": Metric(
        "llmwatch.layer.findings",
        "{finding}",
        "observable_gauge",
        "Findings about the layers of a model that are raised, by kind.",
    ),
    "abs_max": Metric(
        "llmwatch.layer.activation.abs_max",
        "1",
        "observable_gauge",
        "Largest magnitude in the output of a layer, over its latest sampled forwards; by the "
        "option `numbers`.",
    ),
    "range_used": Metric(
        "llmwatch.layer.activation.range_used",
        "1",
        "observable_gauge",
        "That magnitude over the largest number of its dtype.",
    ),
    "cosine": Metric(
        "llmwatch.layer.activation.cosine",
        "1",
        "observable_gauge",
        "Mean cosine between the input and the output of a layer.",
    ),
    "broken": Metric(
        "llmwatch.layer.activation.broken",
        "1",
        "observable_gauge",
        "Share of the latest sampled forwards in which a layer put out a NaN or an infinity.",
    ),
}
"""What findings rest on; judged at most every ten seconds, when metrics are collected."""

# --- meanings: the reference in the docs is made of them ------------------------------------------

ATTRIBUTES: Final[dict[str, str]] = {
    LAYER_NAME: "The layer's path in `named_modules()`; `(model)` for the whole model. Of a model "
    "with many watched layers, numbers in it are `*`.",
    LAYER_TYPE: "Name of the layer's class.",
    LAYER_BLOCK: "Which of the repeated blocks it is, or is in, counted from 0.",
    LAYER_PHASE: "`prefill` or `decode` inside a generation, else `forward`; `backward`.",
    LAYER_DEVICE: "Where it ran: `cpu`, `cuda:0`.",
    LAYER_SELF_TIME: "On a layer's span: seconds without the layers in it.",
    FINDING_KIND: "Which finding: `time_beyond_flops`, `nan_first`, …",
    FINDING_VALUE: "What was compared with the threshold.",
    FINDING_THRESHOLD: "From where on it is a finding.",
    FINDING_TEXT: "The finding in a sentence.",
    FINDING_EVIDENCE: "What it rests on, as JSON.",
    RANK: "Rank of this process in its `torch.distributed` group.",
    WORLD_SIZE: "Processes in that group.",
}
"""What each attribute means."""

EVENTS: Final[dict[str, str]] = {
    EVENT_FINDING_RAISED: "Something in the layers of a model is worth a look, twice in a row.",
    EVENT_FINDING_CLEARED: "It is so no more, three times in a row.",
}
"""What each event means."""
