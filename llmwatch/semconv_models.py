"""Names of what is said about models that run in this process: `semconv` for local generation.

``gen_ai.server.*`` are names of the OpenTelemetry semantic conventions 1.41 and of genai-0.1 alike;
what those lack is under ``llmwatch.generation.*``.
"""

from __future__ import annotations

from typing import Final

from llmwatch.semconv import DURATION_BUCKETS, FINE_BUCKETS, RATE_BUCKETS, Metric

# --- attributes of our own ---------------------------------------------------------------------

GENERATION_MODE: Final = "llmwatch.generation.mode"
GENERATION_DRAFTER: Final = "llmwatch.generation.drafter"
GENERATION_BATCH_SIZE: Final = "llmwatch.generation.batch_size"
GENERATION_BEAMS: Final = "llmwatch.generation.beams"
GENERATION_MIN_P: Final = "llmwatch.generation.min_p"
GENERATION_REPETITION_PENALTY: Final = "llmwatch.generation.repetition_penalty"
GENERATION_MAX_TIME: Final = "llmwatch.generation.max_time"
GENERATION_PREFILL_CHUNK: Final = "llmwatch.generation.prefill.chunk_size"
GENERATION_LOOPS: Final = "llmwatch.generation.loops"
GENERATION_STEPS: Final = "llmwatch.generation.steps"
GENERATION_OUTPUTS: Final = "llmwatch.generation.output_tokens"
GENERATION_TIME_TO_FIRST_TOKEN: Final = "llmwatch.generation.time_to_first_token"
GENERATION_PREFILL_TIME: Final = "llmwatch.generation.prefill.time"
GENERATION_PREFILL_RATE: Final = "llmwatch.generation.prefill.token_rate"
GENERATION_DECODE_TIME: Final = "llmwatch.generation.decode.time"
GENERATION_DECODE_RATE: Final = "llmwatch.generation.decode.token_rate"
GENERATION_GAP_P50: Final = "llmwatch.generation.gap.p50"
GENERATION_GAP_P95: Final = "llmwatch.generation.gap.p95"
GENERATION_GAP_MAX: Final = "llmwatch.generation.gap.max"
GENERATION_TIMELINE: Final = "llmwatch.generation.timeline"
GENERATION_SLOTS: Final = "llmwatch.generation.slots"
GENERATION_PADDING: Final = "llmwatch.generation.padding"
GENERATION_PADDING_RATE: Final = "llmwatch.generation.padding.token_rate"
GENERATION_DRAFTED: Final = "llmwatch.generation.drafted_tokens"
GENERATION_ACCEPTED: Final = "llmwatch.generation.accepted_tokens"
GENERATION_CACHE_SIZE: Final = "llmwatch.generation.cache.size"
GENERATION_CACHE: Final = "llmwatch.generation.cache.type"
GENERATION_ENTROPY: Final = "llmwatch.generation.entropy"
GENERATION_LOGPROB: Final = "llmwatch.generation.logprob"
GENERATION_LOGPROB_MIN: Final = "llmwatch.generation.logprob.min"
GENERATION_PERPLEXITY: Final = "llmwatch.generation.perplexity"
MODEL_CLASS: Final = "llmwatch.model.class"
MODEL_PARAMETERS: Final = "llmwatch.model.parameters"
MODEL_DEVICE: Final = "llmwatch.model.device"
MODEL_DTYPE: Final = "llmwatch.model.dtype"
SLOT: Final = "llmwatch.slot"
DRAFT: Final = "llmwatch.draft"

# --- buckets -----------------------------------------------------------------------------------

FIRST_TOKEN_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Seconds, 1 ms to 10 s: what the conventions ask for."""

PER_TOKEN_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
"""Seconds, 10 ms to 2.5 s: what the conventions ask for."""

BYTE_BUCKETS: Final = tuple(float(4**power) for power in range(5, 20))
"""Bytes, powers of 4 from 1 KiB to 256 GiB."""

PREFILL_RATE_BUCKETS: Final = (*RATE_BUCKETS, *(base * 10_000.0 for base in (1.0, 2.5, 6.3)))
"""Tokens per second, 1 to 63000: a prompt is processed many tokens at a time."""

PERPLEXITY_BUCKETS: Final = (
    *(1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0),
    *(10.0, 16.0, 25.0, 63.0, 250.0, 1000.0, 10_000.0, 100_000.0),
)

# --- metrics -----------------------------------------------------------------------------------

SERVER_METRICS: Final[dict[str, Metric]] = {
    "duration": Metric(
        "gen_ai.server.request.duration",
        "s",
        "histogram",
        "Time that a model in this process took for a request, to its last token or its failure.",
        DURATION_BUCKETS,
    ),
    "time_to_first_token": Metric(
        "gen_ai.server.time_to_first_token",
        "s",
        "histogram",
        "Time from the request to the first token of a model in this process, if it succeeded.",
        FIRST_TOKEN_BUCKETS,
    ),
    "time_per_output_token": Metric(
        "gen_ai.server.time_per_output_token",
        "s",
        "histogram",
        "Decoding time of a successful request for each token after the first.",
        PER_TOKEN_BUCKETS,
    ),
}
"""Metrics of the conventions, named alike in all their releases."""

GENERATION_METRICS: Final[dict[str, Metric]] = {
    "gaps": Metric(
        "llmwatch.generation.inter_token_time",
        "s",
        "histogram",
        "Time between two successive steps of decoding. A step gives each sequence one token; in "
        "speculative modes several.",
        FINE_BUCKETS,
    ),
    "prefill_time": Metric(
        "llmwatch.generation.prefill_time",
        "s",
        "histogram",
        "Time in which the prompt was processed, to the first token.",
        FINE_BUCKETS,
    ),
    "prefill_rate": Metric(
        "llmwatch.generation.prefill_token_rate",
        "{token}/s",
        "histogram",
        "Prompt tokens processed per second of prefill.",
        PREFILL_RATE_BUCKETS,
    ),
    "decode_rate": Metric(
        "llmwatch.generation.decode_token_rate",
        "{token}/s",
        "histogram",
        "Useful tokens per second of decoding, of all sequences of a request together.",
        RATE_BUCKETS,
    ),
    "slots": Metric(
        "llmwatch.generation.slots",
        "{token}",
        "counter",
        "Tokens that the steps had room for, useful or padding.",
    ),
    "drafts": Metric(
        "llmwatch.generation.drafts",
        "{token}",
        "counter",
        "Tokens drafted in speculative modes, accepted or rejected by the model.",
    ),
    "cache_bytes": Metric(
        "llmwatch.generation.cache_size",
        "By",
        "histogram",
        "Size of a request's key-value cache at its end.",
        BYTE_BUCKETS,
    ),
    "perplexity": Metric(
        "llmwatch.generation.perplexity",
        "1",
        "histogram",
        "exp of the mean negative log-probability of the tokens chosen; by the setting "
        "`confidence`.",
        PERPLEXITY_BUCKETS,
    ),
}

# --- meanings: the reference in the docs is made of them ------------------------------------------

ATTRIBUTES: Final[dict[str, str]] = {
    GENERATION_MODE: "How tokens are chosen: `greedy_search`, `sample`, `beam_search`, "
    "`beam_sample`, `assisted_generation`, `custom`, … as transformers names it.",
    GENERATION_DRAFTER: "Who drafts in speculative modes: `model`, `prompt_lookup`, `early_exit`, "
    "`mtp`.",
    GENERATION_BATCH_SIZE: "How many prompts one call held.",
    GENERATION_BEAMS: "Beams for each prompt, where not 1.",
    GENERATION_MIN_P: "Least probability of a token, as a share of the likeliest one's.",
    GENERATION_REPETITION_PENALTY: "The repetition penalty, where not 1.",
    GENERATION_MAX_TIME: "Seconds after which generation is to stop.",
    GENERATION_PREFILL_CHUNK: "Tokens of the prompt that are processed at a time.",
    GENERATION_LOOPS: "Decoding loops of one request, where not 1: pieces of a long recording, "
    "attempts at other temperatures.",
    GENERATION_STEPS: "Steps of decoding, the one that ends the prefill included.",
    GENERATION_OUTPUTS: "Output tokens of each sequence, to the first end-of-sequence token; the "
    "first 128 sequences.",
    GENERATION_TIME_TO_FIRST_TOKEN: "Seconds from the request to the first token.",
    GENERATION_PREFILL_TIME: "Seconds in which the prompt was processed, to the first token; "
    "without what prepared it.",
    GENERATION_PREFILL_RATE: "Prompt tokens processed per second of prefill.",
    GENERATION_DECODE_TIME: "Seconds from the first token to the last one.",
    GENERATION_DECODE_RATE: "Useful tokens per second of decoding, of all sequences together.",
    GENERATION_GAP_P50: "Median time between two steps of decoding, in seconds.",
    GENERATION_GAP_P95: "95th percentile of the times between steps, in seconds.",
    GENERATION_GAP_MAX: "Longest time between two steps, in seconds.",
    GENERATION_TIMELINE: "Microseconds from the request to the end of each step; by the setting "
    "`timeline`.",
    GENERATION_SLOTS: "Tokens that the steps had room for: steps times rows, beams included.",
    GENERATION_PADDING: "Share of the slots, 0 to 1, without a useful token: of sequences that had "
    "ended before others, of beams not returned.",
    GENERATION_PADDING_RATE: "Such slots per second of the request.",
    GENERATION_DRAFTED: "Tokens proposed to the model in speculative modes.",
    GENERATION_ACCEPTED: "Those of them that the model agreed to.",
    GENERATION_CACHE_SIZE: "Bytes of the key-value cache at the end.",
    GENERATION_CACHE: "Class of the key-value cache.",
    GENERATION_ENTROPY: "Mean entropy of the distributions that tokens were chosen from, in nats, "
    "after all logits processors; by the setting `confidence`.",
    GENERATION_LOGPROB: "Mean log-probability of the chosen tokens, likewise.",
    GENERATION_LOGPROB_MIN: "Log-probability of the least likely token that was chosen, likewise.",
    GENERATION_PERPLEXITY: "exp of the negative mean log-probability.",
    MODEL_CLASS: "Class of the model that runs in this process.",
    MODEL_PARAMETERS: "How many parameters it has.",
    MODEL_DEVICE: "Where it runs: `cpu`, `cuda:0`, …",
    MODEL_DTYPE: "Type of its parameters: `float32`, `bfloat16`, …",
    SLOT: "On `llmwatch.generation.slots`: `useful` or `padding`.",
    DRAFT: "On `llmwatch.generation.drafts`: `accepted` or `rejected`.",
}
"""What each attribute means."""
