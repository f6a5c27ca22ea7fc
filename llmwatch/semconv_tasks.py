"""Names of what is said about tasks that models of this process do, beside generating text.

`semconv` for pipelines, embeddings and continuous batching.
"""

from __future__ import annotations

from typing import Final

from llmwatch.semconv import FINE_BUCKETS, Metric

TASK: Final = "llmwatch.task"
TASK_DETAIL: Final = "llmwatch.task.detail"
CONTINUOUS_BATCHING: Final = "llmwatch.generation.continuous_batching"
REQUEST_KEY: Final = "llmwatch.request.key"
BATCHES: Final = "llmwatch.request.batches"
BATCH_SIZE: Final = "llmwatch.request.batch_size"
INPUT_RATE: Final = "llmwatch.request.input_rate"
QUEUE_TIME: Final = "llmwatch.request.queue_time"

INPUT_RATE_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9) for exponent in range(-1, 5) for base in (1.0, 2.5, 6.3)
)
"""Inputs per second, 0.1 to 63000."""

TASK_METRICS: Final[dict[str, Metric]] = {
    "queue_time": Metric(
        "llmwatch.request.queue_time",
        "s",
        "histogram",
        "Time a request waited before a model in this process began with it.",
        FINE_BUCKETS,
    ),
    "input_rate": Metric(
        "llmwatch.request.input_rate",
        "{input}/s",
        "histogram",
        "Inputs (texts, pictures, …) per second of a request that a model in this process served; "
        "not of generation.",
        INPUT_RATE_BUCKETS,
    ),
}

ATTRIBUTES: Final[dict[str, str]] = {
    TASK: "Task of the pipeline: `text-generation`, `feature-extraction`, …",
    TASK_DETAIL: "What embeddings are for, where the call says so: `query` or `document`.",
    CONTINUOUS_BATCHING: "True where the request shares its steps with others that come and go.",
    REQUEST_KEY: "What whoever batches calls the request: `req_0`, …",
    BATCHES: "How many batches the inputs were processed in.",
    BATCH_SIZE: "Inputs in the largest of them.",
    INPUT_RATE: "Inputs per second.",
    QUEUE_TIME: "Seconds a request waited before the model began with it.",
}
"""What each attribute means."""
