"""Every attribute, metric and event name, unit and bucket list that llmwatch emits.

Two releases of the GenAI conventions are held side by side as data: ``1.41`` (what the Python
packages of OpenTelemetry emit today) and ``genai-0.1`` (the renamed ones). The reference in the
docs is generated from this module. Sources: OpenTelemetry semantic conventions 1.41 and
semantic-conventions-genai 0.1.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Version = Literal["1.41", "genai-0.1"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE: Final = "llmwatch"

# --- attributes of the conventions -------------------------------------------------------------

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
CACHE_WRITE_TOKENS: Final[dict[Version, str]] = {
    "1.41": USAGE_CACHE_CREATION_INPUT_TOKENS,
    "genai-0.1": USAGE_CACHE_WRITE_INPUT_TOKENS,
}
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
ERROR_CODE: Final = "llmwatch.error.code"
HTTP_STATUS_CODE: Final = "http.response.status_code"
CODE_FUNCTION_NAME: Final = "code.function.name"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"

# --- attributes of our own ---------------------------------------------------------------------

ROUTE: Final = "llmwatch.route"
TENANT: Final = "llmwatch.tenant"
STREAM_CHUNKS: Final = "llmwatch.stream.chunks"
STREAM_READY_CHUNKS: Final = "llmwatch.stream.ready_chunks"
STREAM_GAP_P50: Final = "llmwatch.stream.gap.p50"
STREAM_GAP_P95: Final = "llmwatch.stream.gap.p95"
STREAM_GAP_MAX: Final = "llmwatch.stream.gap.max"
STREAM_STALLS: Final = "llmwatch.stream.stalls"
STREAM_TIMELINE: Final = "llmwatch.stream.timeline"
STREAM_SERVER_WAIT: Final = "llmwatch.stream.server_wait"
STREAM_CONSUMER_TIME: Final = "llmwatch.stream.consumer_time"
STREAM_ENDING: Final = "llmwatch.stream.ending"
TIME_TO_FIRST_REASONING: Final = "llmwatch.response.time_to_first_reasoning"
TIME_TO_FIRST_OUTPUT: Final = "llmwatch.response.time_to_first_output"
TIME_PER_OUTPUT_TOKEN: Final = "llmwatch.response.time_per_output_token"
OUTPUT_TOKEN_RATE: Final = "llmwatch.response.output_token_rate"
USAGE_ESTIMATED: Final = "llmwatch.usage.estimated"
COST: Final = "llmwatch.cost.usd"
CLIENT_WAIT: Final = "llmwatch.client.wait"
CLIENT_RETRIES: Final = "llmwatch.client.retries"
CLIENT_POOL_WAIT: Final = "llmwatch.client.pool_wait"
REQUEST_ID: Final = "llmwatch.response.request_id"
RATE_LIMIT_REMAINING_REQUESTS: Final = "llmwatch.rate_limit.remaining_requests"
RATE_LIMIT_REMAINING_TOKENS: Final = "llmwatch.rate_limit.remaining_tokens"
TOOLS_OFFERED: Final = "llmwatch.request.tools"
TOOL_CHOICE: Final = "llmwatch.request.tool_choice"
TOOLS_CALLED: Final = "llmwatch.response.tool_calls"
INPUT_COUNT: Final = "llmwatch.request.input_count"
OUTPUT_COUNT: Final = "llmwatch.response.output_count"
OUTPUT_BYTES: Final = "llmwatch.response.output_bytes"
CONTENT_TRUNCATED: Final = "llmwatch.content.truncated"
CAUSE: Final = "llmwatch.cause"
SIGNAL: Final = "llmwatch.signal"
KEPT: Final = "llmwatch.kept"
FLAGGED: Final = "llmwatch.flagged"
LEFT_OUT_BY: Final = "llmwatch.left_out.by"
DRIFT_MONITOR: Final = "llmwatch.drift.monitor"
DRIFT_KEY: Final = "llmwatch.drift.key"
DRIFT_REFERENCE: Final = "llmwatch.drift.reference"
DRIFT_REASON: Final = "llmwatch.drift.reason"
DRIFT_STATISTIC: Final = "llmwatch.drift.statistic"
DRIFT_P_VALUE: Final = "llmwatch.drift.p_value"
DRIFT_EFFECT: Final = "llmwatch.drift.effect"
DRIFT_FOREIGN: Final = "llmwatch.drift.foreign"
DRIFT_CENTROID: Final = "llmwatch.drift.centroid"
DRIFT_MAHALANOBIS: Final = "llmwatch.drift.mahalanobis"
DRIFT_DEPENDENCE: Final = "llmwatch.drift.dependence"
DRIFT_WINDOW: Final = "llmwatch.drift.window"
DRIFT_TRACES: Final = "llmwatch.drift.foreign_trace_ids"
DRIFT_IDS: Final = "llmwatch.drift.foreign_ids"
DRIFT_REGION: Final = "llmwatch.drift.region"
DRIFT_REGION_COSINE: Final = "llmwatch.drift.region.cosine"
DRIFT_REGION_SHARE: Final = "llmwatch.drift.region.share"
DRIFT_REGION_IDS: Final = "llmwatch.drift.region.ids"

METRIC_ATTRIBUTES: Final = {"route": ROUTE, "tenant": TENANT}
"""Keys of `llmwatch.attributes` that may go on metrics, and their attribute names."""

CONTEXT_ATTRIBUTES: Final = {
    **METRIC_ATTRIBUTES,
    "session": SESSION_ID,
    "user": USER_ID,
    "flagged": FLAGGED,
}
"""Keyword arguments of `llmwatch.attributes` that have a name of their own."""

# --- events ------------------------------------------------------------------------------------

EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_EXCEPTION: Final = "gen_ai.client.operation.exception"
EVENT_DRIFT_RAISED: Final = "llmwatch.drift.raised"
EVENT_DRIFT_CLEARED: Final = "llmwatch.drift.cleared"

# --- buckets -----------------------------------------------------------------------------------

DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds, 10 ms to 82 s: what the conventions ask for."""

TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
"""Tokens, powers of 4 from 1 to 67108864: what the conventions ask for."""

FINE_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9)
    for exponent in range(-4, 2)
    for base in (1.0, 1.6, 2.5, 4.0, 6.3)
)
"""Seconds, 0.1 ms to 63 s, five a decade: local decoding above 100 tokens/s stays readable."""

RATE_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9) for exponent in range(4) for base in (1.0, 1.6, 2.5, 4.0, 6.3)
)
"""Tokens per second, 1 to 6300."""

COST_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9) for exponent in range(-6, 2) for base in (1.0, 3.0)
)
"""US dollars, a millionth to 30."""

# --- metrics -----------------------------------------------------------------------------------

Kind = Literal[
    "histogram",
    "counter",
    "observable_up_down_counter",
    "observable_counter",
    "observable_gauge",
]


class Metric(NamedTuple):
    """One metric that llmwatch emits."""

    name: str
    unit: str
    kind: Kind
    description: str
    buckets: tuple[float, ...] = ()


def _seconds(name: str, description: str, buckets: tuple[float, ...] = DURATION_BUCKETS) -> Metric:
    return Metric(name, "s", "histogram", description, buckets)


def _tokens(name: str, description: str, kind: Kind = "counter") -> Metric:
    return Metric(name, "{token}", kind, description, TOKEN_BUCKETS if kind == "histogram" else ())


_DURATION = "Time from issuing a request to its end or failure."
_FIRST_CHUNK = "Time from issuing a streamed request to its first chunk."
_PER_CHUNK = "Time between two successive chunks of a streamed response."

CONVENTION_METRICS: Final[dict[Version, dict[str, Metric]]] = {
    "1.41": {
        "duration": _seconds("gen_ai.client.operation.duration", _DURATION),
        "time_to_first_chunk": _seconds(
            "gen_ai.client.operation.time_to_first_chunk", _FIRST_CHUNK
        ),
        "time_per_output_chunk": _seconds(
            "gen_ai.client.operation.time_per_output_chunk", _PER_CHUNK
        ),
        "token_usage": _tokens(
            "gen_ai.client.token.usage", "Tokens used by one operation, by type.", "histogram"
        ),
    },
    "genai-0.1": {
        "duration": _seconds("gen_ai.client.inference.duration", _DURATION),
        "time_to_first_chunk": _seconds(
            "gen_ai.client.inference.time_to_first_chunk", _FIRST_CHUNK
        ),
        "time_per_output_chunk": _seconds(
            "gen_ai.client.inference.time_per_output_chunk", _PER_CHUNK
        ),
        "input_tokens": _tokens("gen_ai.client.inference.usage.input_tokens", "Input tokens used."),
        "output_tokens": _tokens(
            "gen_ai.client.inference.usage.output_tokens", "Output tokens used."
        ),
        "cache_read_tokens": _tokens(
            "gen_ai.client.inference.usage.cache_read.input_tokens",
            "Input tokens that came from the provider's cache.",
        ),
        "cache_write_tokens": _tokens(
            "gen_ai.client.inference.usage.cache_write.input_tokens",
            "Input tokens written to the provider's cache.",
        ),
        "reasoning_tokens": _tokens(
            "gen_ai.client.inference.usage.reasoning.output_tokens",
            "Output tokens spent on reasoning.",
        ),
        "operation_input_tokens": _tokens(
            "gen_ai.client.inference.operation.input_tokens",
            "Input tokens of one operation.",
            "histogram",
        ),
        "operation_output_tokens": _tokens(
            "gen_ai.client.inference.operation.output_tokens",
            "Output tokens of one operation.",
            "histogram",
        ),
        "embeddings_duration": _seconds("gen_ai.client.embeddings.duration", _DURATION),
        "embeddings_input_tokens": _tokens(
            "gen_ai.client.embeddings.operation.input_tokens",
            "Input tokens of one embeddings operation.",
            "histogram",
        ),
    },
}

OWN_METRICS: Final[dict[str, Metric]] = {
    "inter_chunk_time": _seconds(
        "llmwatch.stream.inter_chunk_time",
        "Time between two successive chunks, in finer buckets than the conventions'.",
        FINE_BUCKETS,
    ),
    "time_to_first_output": _seconds(
        "llmwatch.operation.time_to_first_output",
        "Time from issuing a streamed request to the first visible output (text or tool call).",
        FINE_BUCKETS,
    ),
    "time_to_first_reasoning": _seconds(
        "llmwatch.operation.time_to_first_reasoning",
        "Time from issuing a streamed request to the first reasoning output.",
        FINE_BUCKETS,
    ),
    "time_per_output_token": _seconds(
        "llmwatch.operation.time_per_output_token",
        "(Last output - first output) / (output tokens - 1) of one streamed operation.",
        FINE_BUCKETS,
    ),
    "output_token_rate": Metric(
        "llmwatch.operation.output_token_rate",
        "{token}/s",
        "histogram",
        "Output tokens of one operation over its duration; of a stream, until its last chunk.",
        RATE_BUCKETS,
    ),
    "client_wait": _seconds(
        "llmwatch.client.wait",
        "Time a request spent in the client before its last attempt was sent: retries, backoff "
        "and, where it can be known, the connection pool.",
        FINE_BUCKETS,
    ),
    "cost": Metric(
        "llmwatch.operation.cost",
        "{USD}",
        "histogram",
        "Cost of one operation by the price list of genai-prices.",
        COST_BUCKETS,
    ),
    "active": Metric(
        "llmwatch.operation.active",
        "{operation}",
        "observable_up_down_counter",
        "Operations in flight.",
    ),
    "errors": Metric(
        "llmwatch.internal.errors",
        "{error}",
        "observable_counter",
        "Failures inside llmwatch, by cause. Your calls are not affected by them.",
    ),
    "dropped": Metric(
        "llmwatch.telemetry.dropped",
        "{item}",
        "observable_counter",
        "Telemetry that llmwatch or its exporters had to drop, by signal.",
    ),
    "left_out": Metric(
        "llmwatch.spans.left_out",
        "{span}",
        "observable_counter",
        "Spans that were not sent because the setting `keep` or `trace_limit` says so. Metrics "
        "count their operations all the same.",
    ),
}

_GAUGE: Final[Kind] = "observable_gauge"
_SUM: Final[Kind] = "observable_counter"

DRIFT_METRICS: Final[dict[str, Metric]] = {
    "embeddings": Metric(
        "llmwatch.drift.embeddings",
        "{embedding}",
        _SUM,
        "Embeddings, or numbers, that a drift monitor took.",
    ),
    "invalid": Metric(
        "llmwatch.drift.invalid",
        "{embedding}",
        _SUM,
        "Embeddings that it could not use, by reason.",
    ),
    "tail_threshold": Metric(
        "llmwatch.drift.tail_threshold",
        "{nat}",
        _GAUGE,
        "What the tail test of one monitor may reach by chance, at its rate of false alarms: the "
        "Berk-Jones statistic of n residuals over (1 + n / half the reference).",
    ),
    "p_value": Metric("llmwatch.drift.p_value", "1", _GAUGE, "p-value of the latest window."),
    "alarm": Metric("llmwatch.drift.alarm", "1", _GAUGE, "1 while an alarm is raised, else 0."),
    "effect": Metric(
        "llmwatch.drift.effect",
        "1",
        _GAUGE,
        "Size of the difference that the latest window shows: the larger of the share of foreign "
        "items and of the centroid's distance without what is chance; a mean that moves further "
        "than the reference's radius gives more than 1.",
    ),
    "centroid": Metric(
        "llmwatch.drift.centroid",
        "1",
        _GAUGE,
        "Distance of the latest window's mean, as a share of the reference's radius; where numbers "
        "are watched, of their mean rank, in deviations of a rank.",
    ),
    "mahalanobis": Metric(
        "llmwatch.drift.mahalanobis", "1", _GAUGE, "Mahalanobis distance of that mean."
    ),
    "dependence": Metric(
        "llmwatch.drift.dependence",
        "1",
        _GAUGE,
        "How many items of the latest window tell as much as one independent item.",
    ),
    "reference_age": Metric(
        "llmwatch.drift.reference.age", "s", _GAUGE, "Time since the reference was fitted."
    ),
    "reference_size": Metric(
        "llmwatch.drift.reference.size", "{embedding}", _GAUGE, "Embeddings it was fitted on."
    ),
}

DRIFT_HISTOGRAMS: Final[dict[str, Metric]] = {
    "residual": Metric(
        "llmwatch.drift.residual",
        "1",
        "histogram",
        "How far outside the reference's main directions embeddings lie (squared distance), of all "
        "keys; where numbers are watched, those. The buckets are the reference's own.",
    ),
    "reference_residual": Metric(
        "llmwatch.drift.reference.residual",
        "1",
        "histogram",
        "The same of the half of the reference that its model was not fitted on.",
    ),
}
"""Counted into buckets that each reference brings with it."""


def versions(setting: str) -> tuple[Version, ...]:
    """The convention releases that a ``semconv`` setting asks for."""
    return ("1.41", "genai-0.1") if setting == "dup" else (setting,)  # type: ignore[return-value]


# --- meanings: the reference in the docs is made of them ------------------------------------------

ATTRIBUTES: Final[dict[str, str]] = {
    OPERATION_NAME: "What was asked for: `chat`, `text_completion`, `embeddings`, …",
    PROVIDER_NAME: "Who answers: `openai`, `azure.ai.openai`, … by the host where it is known.",
    CONVERSATION_ID: "Id of the conversation that the provider keeps.",
    OUTPUT_TYPE: "What kind of output was asked for: `text`, `json`, `image`, `speech`.",
    REQUEST_MODEL: "The model asked for.",
    REQUEST_STREAM: "True if the response was asked for as a stream.",
    REQUEST_CHOICE_COUNT: "How many alternatives were asked for, where not 1.",
    REQUEST_SEED: "The seed asked for.",
    REQUEST_TEMPERATURE: "The sampling temperature asked for.",
    REQUEST_TOP_P: "The nucleus sampling share asked for, 0 to 1.",
    REQUEST_TOP_K: "The number of candidate tokens asked for.",
    REQUEST_MAX_TOKENS: "The most output tokens allowed.",
    REQUEST_FREQUENCY_PENALTY: "The frequency penalty asked for.",
    REQUEST_PRESENCE_PENALTY: "The presence penalty asked for.",
    REQUEST_STOP_SEQUENCES: "The texts that end the output.",
    REQUEST_ENCODING_FORMATS: "The encodings asked for, for example `float` or `base64`.",
    REQUEST_REASONING_LEVEL: "The reasoning effort asked for.",
    REQUEST_PREVIOUS_RESPONSE_ID: "Id of the response that this request goes on from.",
    EMBEDDINGS_DIMENSION_COUNT: "Length of the embedding vectors.",
    RESPONSE_ID: "The provider's id of the response.",
    RESPONSE_MODEL: "The model that answered, as the provider names it.",
    RESPONSE_FINISH_REASONS: "Why each choice ended: `stop`, `length`, `tool_calls`, …",
    RESPONSE_TIME_TO_FIRST_CHUNK: "Seconds from the request to the first chunk of a stream.",
    TOKEN_TYPE: "On token metrics: `input` or `output`.",
    TOKEN_MODALITY: "On usage counters of genai-0.1: `audio`, or `unknown` for all other tokens.",
    USAGE_INPUT_TOKENS: "Input tokens, cached ones included, as reported.",
    USAGE_OUTPUT_TOKENS: "Output tokens, reasoning included, as reported.",
    USAGE_CACHE_READ_INPUT_TOKENS: "Input tokens that came from the provider's cache.",
    USAGE_CACHE_CREATION_INPUT_TOKENS: "Input tokens written to the cache (conventions 1.41).",
    USAGE_CACHE_WRITE_INPUT_TOKENS: "Input tokens written to the cache (genai-0.1).",
    USAGE_REASONING_OUTPUT_TOKENS: "Output tokens spent on reasoning.",
    USAGE_AUDIO_INPUT_TOKENS: "Input tokens that were audio.",
    USAGE_AUDIO_OUTPUT_TOKENS: "Output tokens that were audio.",
    INPUT_MESSAGES: "Content, only if asked for: the messages sent.",
    OUTPUT_MESSAGES: "Content, only if asked for: the messages received.",
    SYSTEM_INSTRUCTIONS: "Content, only if asked for: the system instructions.",
    TOOL_DEFINITIONS: "Content, only if asked for: the tools offered, by type and name.",
    TOOL_NAME: "The tool that a decorated function runs.",
    AGENT_NAME: "The agent that a decorated function runs.",
    WORKFLOW_NAME: "The workflow that a decorated function runs.",
    OPENAI_API_TYPE: "Which API of OpenAI: `chat_completions` or `responses`.",
    OPENAI_REQUEST_SERVICE_TIER: "The service tier asked for.",
    OPENAI_RESPONSE_SERVICE_TIER: "The service tier that served the request.",
    OPENAI_RESPONSE_SYSTEM_FINGERPRINT: "Fingerprint of the provider's configuration.",
    SERVER_ADDRESS: "Host that the request went to.",
    SERVER_PORT: "Port that the request went to.",
    ERROR_TYPE: "Class of the exception, or the code a response failed with. Absent on success.",
    ERROR_CODE: "The provider's code of the error, where it gives one.",
    EXCEPTION_TYPE: "On exception events: class of the exception.",
    EXCEPTION_MESSAGE: "On exception events: its message.",
    EXCEPTION_STACKTRACE: "On exception events: where it was raised.",
    HTTP_STATUS_CODE: "Status of the HTTP response, where the call failed with one.",
    CODE_FUNCTION_NAME: "The decorated function, by module and qualified name.",
    SESSION_ID: "`session` of `llmwatch.attributes`.",
    USER_ID: "`user` of `llmwatch.attributes`.",
    ROUTE: "`route` of `llmwatch.attributes`; on metrics too.",
    TENANT: "`tenant` of `llmwatch.attributes`; on metrics too.",
    STREAM_CHUNKS: "How many chunks of output the stream had. A chunk is not a token.",
    STREAM_READY_CHUNKS: "Chunks that were there before a slow consumer asked for them. They say "
    "nothing of the server, so the gaps beside them are left out.",
    STREAM_GAP_P50: "Median gap between two successive chunks, in seconds.",
    STREAM_GAP_P95: "95th percentile of the gaps between chunks, in seconds.",
    STREAM_GAP_MAX: "Longest gap between two chunks, in seconds.",
    STREAM_STALLS: "How many gaps were longer than the setting `stall_after`.",
    STREAM_TIMELINE: "Microseconds from the request to each chunk; by the setting `timeline`.",
    STREAM_SERVER_WAIT: "Seconds spent waiting for chunks, summed up.",
    STREAM_CONSUMER_TIME: "Seconds that the program took between chunks, summed up.",
    STREAM_ENDING: "How the stream ended: `exhausted`, `closed`, `abandoned`, `cancelled`, "
    "`failed`.",
    TIME_TO_FIRST_REASONING: "Seconds from the request to the first reasoning output.",
    TIME_TO_FIRST_OUTPUT: "Seconds from the request to the first visible output.",
    TIME_PER_OUTPUT_TOKEN: "Seconds a token: (last output - first output) / (output tokens - 1). "
    "Absent below two tokens.",
    OUTPUT_TOKEN_RATE: "Output tokens of this stream over the time to its last chunk, per second. "
    "Absent where chunks were ready.",
    USAGE_ESTIMATED: "True where output tokens were counted from chunks; by the setting "
    "`estimate_usage`.",
    COST: "US dollars, by the price list of genai-prices. Absent where the model is unknown.",
    CLIENT_WAIT: "Seconds before the last attempt was sent: retries, backoff, connection pool.",
    CLIENT_RETRIES: "How often the client tried again.",
    CLIENT_POOL_WAIT: "Seconds spent waiting for a connection of the pool.",
    REQUEST_ID: "The provider's id of the HTTP request (`x-request-id`).",
    RATE_LIMIT_REMAINING_REQUESTS: "Requests left in the rate limit, by the response's headers.",
    RATE_LIMIT_REMAINING_TOKENS: "Tokens left in the rate limit, by the response's headers.",
    TOOLS_OFFERED: "Names of the tools offered to the model.",
    TOOL_CHOICE: "Which tool the model was told to use, or how it may choose.",
    TOOLS_CALLED: "Names of the tools that the model called.",
    INPUT_COUNT: "How many inputs one request held.",
    OUTPUT_COUNT: "How many results (vectors, images, …) the response held.",
    OUTPUT_BYTES: "Size of a binary result in bytes.",
    CONTENT_TRUNCATED: "True where captured content was cut to the setting `content_limit`.",
    CAUSE: "On `llmwatch.internal.errors`: the place inside llmwatch that failed.",
    SIGNAL: "On `llmwatch.telemetry.dropped`: `traces`, `metrics` or `logs`.",
    KEPT: "Why the setting `keep` kept the trace: the first rule that held, `errors`, `flagged`, "
    "`slow`, `ttft`, `cost` or `share`.",
    FLAGGED: "True where the program said that something is worth keeping: `llmwatch.flag()`, or "
    "`flagged` of `llmwatch.attributes`.",
    LEFT_OUT_BY: "On `llmwatch.spans.left_out`: `keep` (no rule held), `trace_limit` (too many "
    "traces in this second), or `overflow` (too many spans waited for their traces to end).",
    DRIFT_MONITOR: "Name of a drift monitor.",
    DRIFT_KEY: "Route, tenant or language that a monitor watches by itself; absent where there is "
    "none.",
    DRIFT_REFERENCE: "Hash of the reference that is compared with; equal on all replicas that "
    "loaded one file.",
    DRIFT_REASON: "Why embeddings could not be used: `nan`, `inf`, `zero`, `dimension`, "
    "`model`, `unreadable`, `overflow`.",
    DRIFT_STATISTIC: "Which p-value: `all` for the verdict's, or `centroid`, `mahalanobis`, "
    "`residual_tail` for one statistic alone.",
    DRIFT_P_VALUE: "How often a window from where the reference came from would differ as much.",
    DRIFT_EFFECT: "Size of the difference: the larger of the share of foreign items and the shift "
    "of the mean, as a share of the reference's radius, without what is chance. Above 1 where the "
    "mean moved further than that.",
    DRIFT_FOREIGN: "At least this share of the window's items is in excess in the residual's tail.",
    DRIFT_CENTROID: "Distance of the window's mean, as a share of the reference's radius.",
    DRIFT_MAHALANOBIS: "Mahalanobis distance of that mean.",
    DRIFT_DEPENDENCE: "How many items of the window tell as much as one independent item.",
    DRIFT_WINDOW: "Embeddings in the window.",
    DRIFT_TRACES: "Trace ids of the most foreign items in the window, the most foreign first.",
    DRIFT_IDS: "Ids that up to three of them were added with.",
    DRIFT_REGION: "Number of the reference's region that the window's mean moved to.",
    DRIFT_REGION_COSINE: "Between that move and the way to the region: near 1, there is more of "
    "it; small, the move leads to where the reference has nothing.",
    DRIFT_REGION_SHARE: "Share of the reference's embeddings in that region.",
    DRIFT_REGION_IDS: "Ids of up to three embeddings of the reference near the region's centre.",
}
"""What each attribute means."""

EVENTS: Final[dict[str, str]] = {
    EVENT_DETAILS: "One operation with its attributes and, if asked for, its content.",
    EVENT_EXCEPTION: "An operation failed with an exception.",
    EVENT_DRIFT_RAISED: "Embeddings no longer come from where the reference came from.",
    EVENT_DRIFT_CLEARED: "They do so again.",
}
"""What each event means."""
