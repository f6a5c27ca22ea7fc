"""*Requests*: what callers of models get, remote or in this process."""

from __future__ import annotations

from docs.dashboards.board import Board
from docs.dashboards.panels import TOKEN_RATE, TOKENS, Panel, Row
from docs.dashboards.queries import (
    MODEL,
    OPERATION,
    PROCESS,
    ROUTE,
    buckets,
    level,
    or_zero,
    quantile,
    rate,
    ratio,
    total,
)
from llmwatch import semconv
from llmwatch.rules.names import label
from llmwatch.semconv import CONVENTION_METRICS, OWN_METRICS

DURATION = CONVENTION_METRICS["1.41"]["duration"]
USAGE = CONVENTION_METRICS["1.41"]["token_usage"]
FIRST = OWN_METRICS["time_to_first_output"]
GAP = OWN_METRICS["inter_chunk_time"]
COST = OWN_METRICS["cost"]
ACTIVE = OWN_METRICS["active"]
ERROR, TYPE = label(semconv.ERROR_TYPE), label(semconv.TOKEN_TYPE)
FAILED = (*OPERATION, f'{ERROR}!=""')
IN, OUT = (*OPERATION, f'{TYPE}="input"'), (*OPERATION, f'{TYPE}="output"')
BY_MODEL, BY_ROUTE = f"{{{{{MODEL}}}}}", f"{{{{{ROUTE}}}}}"


def failing(*by: str) -> str:
    """Share of operations that failed."""
    ended = rate(DURATION, "count", *by)
    return f"({or_zero(rate(DURATION, 'count', *by, where=FAILED), ended)}) / ({ended} > 0)"


def per_hour(*by: str) -> str:
    """US dollars an hour."""
    return f"3600 * {rate(COST, 'sum', *by)}"


NOW = (
    Panel(
        kind="number",
        asks="How many requests a second?",
        tells="Calls to models that ended, successful or not; in this process and over the "
        "network.",
        unit="reqps",
        queries=((rate(DURATION, "count"), "requests"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="What share of them fails?",
        tells="Calls that ended with an error, over all calls; cancelled ones are among them, "
        "which alerts leave out. A retry of the client is no call of its own.",
        unit="percentunit",
        high=1,
        queries=((failing(), "failed"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How soon does an answer begin?",
        tells="TTFT: time to the first visible output of a stream; 95 of 100 are faster.",
        unit="s",
        queries=((quantile(0.95, FIRST), "p95"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How many tokens come a second?",
        tells="Output tokens of all calls together, as servers reported them, counted when a call "
        "ends.",
        unit=TOKEN_RATE,
        queries=((rate(USAGE, "sum", where=OUT), "output"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="What does an hour cost?",
        tells="US dollars an hour at the present rate, by the price list of genai-prices (extra "
        "`cost`). Models without a price there are not in it.",
        unit="currencyUSD",
        queries=((per_hour(), "an hour"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How many are in flight?",
        tells="Calls that have begun and not ended, at the moment of the scrape.",
        unit="short",
        queries=((level(ACTIVE, "sum", where=OPERATION), "in flight"),),
        width=4,
        height=5,
    ),
)

TRAFFIC = (
    Panel(
        asks="How many requests a second, by model?",
        tells="Calls that ended, by the model that was asked for.",
        unit="reqps",
        queries=((rate(DURATION, "count", MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How many requests a second, by route?",
        tells="Calls that ended, by the `route` that the program gave to `llmwatch.attributes`; "
        "without one, the name is empty.",
        unit="reqps",
        queries=((rate(DURATION, "count", ROUTE), BY_ROUTE),),
    ),
    Panel(
        asks="How many are in flight, by model?",
        tells="Calls that have begun and not ended. A level that only rises: calls that hang, or "
        "a server that is too slow for what it is asked.",
        unit="short",
        queries=((level(ACTIVE, "sum", MODEL, where=OPERATION), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="Which errors come, and how often?",
        tells="Calls that failed, by model and class of the error: `RateLimitError`, "
        "`APITimeoutError`, …",
        unit="reqps",
        queries=(
            (rate(DURATION, "count", MODEL, ERROR, where=FAILED), f"{BY_MODEL} {{{{{ERROR}}}}}"),
        ),
        traces=True,
    ),
    Panel(
        asks="What share of requests fails, by model?",
        tells="Calls that failed over all calls of a model.",
        unit="percentunit",
        high=1,
        queries=((failing(MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="What share of requests fails, by route?",
        tells="Calls that failed over all calls of a route.",
        unit="percentunit",
        high=1,
        queries=((failing(ROUTE), BY_ROUTE),),
    ),
    Panel(
        asks="How long does a request take?",
        tells="From issuing a call to its end or failure; of a stream to its last chunk.",
        unit="s",
        queries=tuple((quantile(q, DURATION), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
    ),
    Panel(
        asks="How long does a request take, by model?",
        tells="95 of 100 calls of a model are faster.",
        unit="s",
        queries=((quantile(0.95, DURATION, MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How long do requests wait in the client?",
        tells="Time before the last attempt was sent: retries, backoff and, where it can be "
        "known, the connection pool. High while servers are fast: the client is the bottleneck.",
        unit="s",
        queries=((quantile(0.95, OWN_METRICS["client_wait"], MODEL), f"p95 {BY_MODEL}"),),
    ),
)

STREAMS = (
    Panel(
        asks="How soon does an answer begin (TTFT)?",
        tells="From issuing a streamed call to its first visible output: text or a tool call.",
        unit="s",
        queries=tuple((quantile(q, FIRST), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
    ),
    Panel(
        asks="How soon does it begin, by model?",
        tells="TTFT: 95 of 100 streams of a model begin sooner.",
        unit="s",
        queries=((quantile(0.95, FIRST, MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How soon does it begin, by route?",
        tells="TTFT: 95 of 100 streams of a route begin sooner.",
        unit="s",
        queries=((quantile(0.95, FIRST, ROUTE), BY_ROUTE),),
    ),
    Panel(
        asks="How long are the gaps between chunks (ITL)?",
        tells="Between two successive chunks of a stream, time in your own code left out.",
        unit="s",
        queries=tuple((quantile(q, GAP), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
    ),
    Panel(
        asks="How long are the gaps, by model?",
        tells="ITL: 95 of 100 gaps between chunks of a model's streams are shorter.",
        unit="s",
        queries=((quantile(0.95, GAP, MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How fast does one request get its tokens?",
        tells="Output tokens of one call over its duration: the median of a model, and what 5 of "
        "100 calls fall short of.",
        unit=TOKEN_RATE,
        queries=tuple(
            (quantile(q, OWN_METRICS["output_token_rate"], MODEL), f"p{q * 100:g} {BY_MODEL}")
            for q in (0.5, 0.05)
        ),
    ),
    Panel(
        kind="distribution",
        asks="How do times to the first output spread?",
        tells="How many streams began within each bucket of TTFT. Two bands: two kinds of calls, "
        "such as cached prompts and others.",
        unit="s",
        queries=((buckets(FIRST), "{{le}}"),),
        width=12,
    ),
    Panel(
        kind="distribution",
        asks="How do gaps between chunks spread?",
        tells="How many gaps fell within each bucket of ITL. A band far above the others: stalls.",
        unit="s",
        queries=((buckets(GAP), "{{le}}"),),
        width=12,
    ),
)

TOKENS_AND_COST = (
    Panel(
        kind="stacked",
        asks="How many tokens go in and out a second?",
        tells="As reported by servers, counted when a call ends; estimates are in it where the "
        "setting `estimate_usage` asks for them.",
        unit=TOKEN_RATE,
        queries=((rate(USAGE, "sum", TYPE), f"{{{{{TYPE}}}}}"),),
    ),
    Panel(
        asks="How many tokens come out a second, by model?",
        tells="Output tokens of all calls of a model together.",
        unit=TOKEN_RATE,
        queries=((rate(USAGE, "sum", MODEL, where=OUT), BY_MODEL),),
        traces=True,
    ),
    Panel(
        asks="How many tokens come out a second, by route?",
        tells="Output tokens of all calls of a route together.",
        unit=TOKEN_RATE,
        queries=((rate(USAGE, "sum", ROUTE, where=OUT), BY_ROUTE),),
    ),
    Panel(
        kind="stacked",
        asks="What does an hour cost, by model?",
        tells="US dollars an hour at the present rate, by the price list of genai-prices.",
        unit="currencyUSD",
        queries=((per_hour(MODEL), BY_MODEL),),
        traces=True,
    ),
    Panel(
        kind="stacked",
        asks="What does an hour cost, by route?",
        tells="US dollars an hour at the present rate, by the price list of genai-prices.",
        unit="currencyUSD",
        queries=((per_hour(ROUTE), BY_ROUTE),),
    ),
    Panel(
        kind="bars",
        asks="What did it cost in the time shown?",
        tells="US dollars of each model, over the time that the dashboard shows.",
        unit="currencyUSD",
        queries=((f"topk(10, {total(COST, 'sum', MODEL)})", BY_MODEL),),
    ),
    Panel(
        asks="How long are prompts?",
        tells="Input tokens of one call. Powers of four bound the buckets: read it as a size, not "
        "to the token.",
        unit=TOKENS,
        queries=tuple((quantile(q, USAGE, where=IN), f"p{q * 100:g}") for q in (0.5, 0.95)),
    ),
    Panel(
        asks="How long are answers?",
        tells="Output tokens of one call. Powers of four bound the buckets: read it as a size, "
        "not to the token.",
        unit=TOKENS,
        queries=tuple((quantile(q, USAGE, where=OUT), f"p{q * 100:g}") for q in (0.5, 0.95)),
    ),
    Panel(
        asks="What do a million tokens cost?",
        tells="US dollars for a million output tokens of a model, prompts included in the cost.",
        unit="currencyUSD",
        queries=(
            (
                "1e6 * " + ratio(rate(COST, "sum", MODEL), rate(USAGE, "sum", MODEL, where=OUT)),
                BY_MODEL,
            ),
        ),
    ),
)

COUNTED = rate(DURATION, "count", where=PROCESS)

TRUST = (
    Panel(
        asks="Is telemetry lost on its way?",
        tells="Spans, metric points and events that llmwatch or its exporters had to drop. More "
        "than 0: a collector that is away or too slow, or queues that are too short.",
        unit="cps",
        red_from=1e-9,
        queries=((or_zero(rate(OWN_METRICS["dropped"], "", where=PROCESS), COUNTED), "dropped"),),
        width=12,
    ),
    Panel(
        asks="Does llmwatch fail inside?",
        tells="Failures inside llmwatch; calls are not affected by them. More than 0: see the log "
        "of the program, and report it.",
        unit="cps",
        red_from=1e-9,
        queries=((or_zero(rate(OWN_METRICS["errors"], "", where=PROCESS), COUNTED), "failures"),),
        width=12,
    ),
)

BOARD = Board(
    name="requests",
    title="llmwatch: requests",
    tells="What callers of language models get: traffic, errors, latency, tokens and cost.",
    found_by=DURATION,
    models_by=DURATION,
    rows=(
        Row(title="Now", panels=NOW),
        Row(title="Traffic, errors and duration", panels=TRAFFIC),
        Row(title="Streams", panels=STREAMS),
        Row(title="Tokens and cost", panels=TOKENS_AND_COST),
        Row(title="Can this be trusted?", panels=TRUST),
    ),
)
