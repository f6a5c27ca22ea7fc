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

# --- meanings: the reference in the docs is made of them ------------------------------------------

ATTRIBUTES: Final[dict[str, str]] = {
    LAYER_NAME: "The layer's path in `named_modules()`; `(model)` for the whole model. Of a model "
    "with many watched layers, numbers in it are `*`.",
    LAYER_TYPE: "Name of the layer's class.",
    LAYER_BLOCK: "Which of the repeated blocks it is, or is in, counted from 0.",
    LAYER_PHASE: "`prefill` or `decode` inside a generation, else `forward`; `backward`.",
    LAYER_DEVICE: "Where it ran: `cpu`, `cuda:0`.",
    LAYER_SELF_TIME: "On a layer's span: seconds without the layers in it.",
    RANK: "Rank of this process in its `torch.distributed` group.",
    WORLD_SIZE: "Processes in that group.",
}
"""What each attribute means."""
