"""Alarms of drift monitors; and their tail test, done again for all replicas together.

Every replica counts how far embeddings lie outside its reference's main directions, in buckets of
that reference. Added up over the replicas that loaded one reference file, they are compared with
the reference's own histogram by a one-sided Berk-Jones test: is too much of them in the upper
tail? What the test may reach by chance comes from the monitors. Numbers (vectors of one
dimension) are not compared: their residual is signed, and both tails count.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmwatch import semconv
from llmwatch.rules.names import exposed, label, select
from llmwatch.rules.rule import PRECISE, Alert, Group, Record
from llmwatch.rules.values import Values, by, who
from llmwatch.semconv import DRIFT_HISTOGRAMS, DRIFT_METRICS

MONITOR, REFERENCE = label(semconv.DRIFT_MONITOR), label(semconv.DRIFT_REFERENCE)
PAIR = f"{MONITOR}, {REFERENCE}"
"""What replicas are added up by."""
OBSERVED, EXPECTED = (exposed(DRIFT_HISTOGRAMS[key]) for key in ("residual", "reference_residual"))
COUNT, ABOVE = "llmwatch:drift_residual:count", "llmwatch:drift_residual:above"
REFERENCE_ABOVE = "llmwatch:drift_reference:above"
BELOW_END = 'le!="+Inf"'


def groups(values: Values) -> Iterator[Group]:
    """One group."""
    records = _tail_test(values["drift.window"])
    yield Group("llmwatch-drift", (*records, _fleet(values), _raised(values)))


def _tail_test(window: str) -> Iterator[Record]:
    threshold = f"max by ({PAIR}) ({select(DRIFT_METRICS['tail_threshold'])})"
    size = f"max by ({PAIR}) ({EXPECTED}_count)"
    yield Record(
        COUNT, f"sum by ({PAIR}) (increase({OBSERVED}_count[{window}]))", f"Embeddings in {window}."
    )
    yield Record(
        ABOVE,
        f"""
        clamp(
          1 - sum by ({PAIR}, le) (increase({OBSERVED}_bucket{{{BELOW_END}}}[{window}]))
            / ignoring (le) group_left () ({COUNT} > 0),
          0, 1)
        """,
        "Share of embeddings above each edge.",
    )
    yield Record(
        REFERENCE_ABOVE,
        f"""
        (
          1 + (
            {size}
            - ignoring (le) group_right ()
            max by ({PAIR}, le) ({EXPECTED}_bucket{{{BELOW_END}}})
          )
        )
        / ignoring (le) group_left () (1 + {size})
        """,
        "The same of the reference; one observation more, so that none is zero.",
    )
    yield Record(
        "llmwatch:drift_residual:divergence",
        f"""
        max by ({PAIR}) (
          (
            {ABOVE} * ln(clamp_min({ABOVE}, 1e-300) / {REFERENCE_ABOVE})
            + (1 - {ABOVE})
            * ln(clamp_min(1 - {ABOVE}, 1e-300) / clamp_min(1 - {REFERENCE_ABOVE}, 1e-300))
          )
          * ({ABOVE} > bool {REFERENCE_ABOVE})
        )
        """,
        "The largest divergence above an edge where there is more than in the reference, else 0.",
    )
    yield Record(
        "llmwatch:drift_residual:statistic",
        f"""
        {COUNT} * llmwatch:drift_residual:divergence
        / (
          (max by ({PAIR}) ({select(DRIFT_METRICS["dependence"])}) or {COUNT} * 0 + 1)
          + {COUNT} / {size}
        )
        """,
        "The Berk-Jones statistic, without what the reference's size and dependent items explain.",
    )
    yield Record(
        "llmwatch:drift_residual:failing",
        f"llmwatch:drift_residual:statistic > bool {threshold}",
        "1 where the fleet's embeddings have more in the tail than chance allows, else 0.",
    )


def _raised(values: Values) -> Alert:
    key, model = label(semconv.DRIFT_KEY), label(semconv.REQUEST_MODEL)
    labels = f"{by(values, 'service')}, {MONITOR}, {key}, {model}"
    alarm, effect = (
        f"max by ({labels}) ({select(DRIFT_METRICS[name])})" for name in ("alarm", "effect")
    )
    return Alert(
        name="LlmwatchDriftRaised",
        severity="ticket",
        # Shows the effect; a monitor without a verdict, restored with its alarm raised, has none.
        expr=f"({effect} or {alarm} * 0)\nand {alarm} == 1",
        hold=values["drift.for"],
        summary=f"{who(values, 'service')}: embeddings of {{{{ $labels.{MONITOR} }}}} "
        f"{{{{ $labels.{key} }}}} drifted",
        description="They no longer come from where the reference came from; the size of the "
        f"difference is {PRECISE}.",
    )


def _fleet(values: Values) -> Alert:
    return Alert(
        name="LlmwatchFleetDriftRaised",
        severity="ticket",
        expr="llmwatch:drift_residual:statistic\nand llmwatch:drift_residual:failing == 1",
        hold=values["drift.fleet_for"],
        summary=f"Embeddings of {{{{ $labels.{MONITOR} }}}} drifted on all replicas together",
        description=f"In {values['drift.window']} more of them lay far outside the reference than "
        f"chance allows; the test's statistic is {PRECISE}.",
    )
