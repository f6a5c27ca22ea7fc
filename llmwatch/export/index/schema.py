"""The tables of the index.

A row of `spans` says where in which file a span is; whatever a table of operations shows stands in
`operations` too. What a prompt or an answer said stands only in the files.
"""

from __future__ import annotations

from typing import Final

APPLICATION: Final = 0x6C6C6D77
"""``llmw``: sqlite's mark of whose file it is."""

VERSION: Final = 2
"""Goes up with every change of a table or of what is put into it."""

SCHEMA: Final = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, offset INTEGER NOT NULL);
CREATE TABLE resources (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, service TEXT NOT NULL);
CREATE TABLE kinds (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL, model TEXT, route TEXT, error TEXT
);
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, trace BLOB NOT NULL, span BLOB NOT NULL, parent BLOB,
    resource INTEGER NOT NULL, file INTEGER NOT NULL, line INTEGER NOT NULL, item INTEGER NOT NULL,
    UNIQUE (trace, span)
);
CREATE INDEX children ON spans (trace, parent) WHERE parent IS NOT NULL;
CREATE TABLE operations (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, resource INTEGER NOT NULL,
    start INTEGER NOT NULL, end INTEGER NOT NULL, outcome INTEGER NOT NULL,
    ttft REAL, gap_p50 REAL, gap_p95 REAL, input INTEGER, output INTEGER, rate REAL, cost REAL,
    nested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX operations_by_end ON operations (end);
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, metric TEXT NOT NULL, unit TEXT NOT NULL,
    kind TEXT NOT NULL, delta INTEGER NOT NULL, start INTEGER NOT NULL,
    attributes TEXT NOT NULL, resource INTEGER NOT NULL
);
CREATE INDEX streams_by_metric ON streams (metric);
CREATE TABLE points (
    stream INTEGER NOT NULL, time INTEGER NOT NULL, start INTEGER NOT NULL,
    value REAL, count INTEGER NOT NULL, file INTEGER NOT NULL,
    PRIMARY KEY (stream, time)
) WITHOUT ROWID;
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, trace BLOB, event TEXT NOT NULL, time INTEGER NOT NULL,
    attributes TEXT, resource INTEGER NOT NULL,
    file INTEGER NOT NULL, line INTEGER NOT NULL, item INTEGER NOT NULL
);
CREATE INDEX logs_by_trace ON logs (trace) WHERE trace IS NOT NULL;
CREATE INDEX logs_by_event ON logs (event, time) WHERE attributes IS NOT NULL;
"""

OUTCOMES: Final = ("ok", "error", "left")
"""What the numbers in `operations.outcome` mean."""

KEPT_EVENTS: Final = (
    "llmwatch.layer.finding.raised",
    "llmwatch.layer.finding.cleared",
    "llmwatch.drift.raised",
    "llmwatch.drift.cleared",
)
"""Events whose attributes stand in `logs` too: findings, and no content."""

DEEPEST: Final = 100
"""Levels above an operation that are looked through: else a trace costs the square of its depth."""

NESTED: Final = f"""
WITH RECURSIVE
below (id, trace, span) AS (
    SELECT id, trace, span FROM spans WHERE id IN (SELECT id FROM seeds)
    UNION
    SELECT s.id, s.trace, s.span FROM below b
    JOIN spans s ON s.trace = b.trace AND s.parent = b.span
),
above (id, operation, model, trace, parent, depth) AS (
    SELECT o.id, k.operation, k.model, s.trace, s.parent, 1 FROM below
    JOIN operations o ON o.id = below.id JOIN kinds k ON k.id = o.kind
    JOIN spans s ON s.id = o.id
    WHERE k.model IS NOT NULL AND s.parent IS NOT NULL
    UNION
    SELECT a.id, a.operation, a.model, s.trace, s.parent, a.depth + 1 FROM above a
    JOIN spans s ON s.trace = a.trace AND s.span = a.parent
    WHERE s.parent IS NOT NULL AND a.depth < {DEEPEST}
)
UPDATE operations SET nested = 1 WHERE id IN (
    SELECT a.id FROM above a
    JOIN spans s ON s.trace = a.trace AND s.span = a.parent
    JOIN operations o ON o.id = s.id JOIN kinds k ON k.id = o.kind
    WHERE k.operation = a.operation AND k.model = a.model AND s.id <> a.id
)
"""
"""Mark what is inside an operation of the same kind and model: a server in the same trace as its
client, a pipeline's own calls. Looks below and above the spans in the table `seeds`."""

FORGET: Final = (
    "DELETE FROM operations WHERE id IN (SELECT id FROM spans WHERE file IN (SELECT id FROM gone))",
    "DELETE FROM spans WHERE file IN (SELECT id FROM gone)",
    "DELETE FROM points WHERE file IN (SELECT id FROM gone)",
    "DELETE FROM logs WHERE file IN (SELECT id FROM gone)",
    "DELETE FROM files WHERE id IN (SELECT id FROM gone)",
    "DELETE FROM streams WHERE NOT EXISTS (SELECT 1 FROM points WHERE stream = streams.id)",
    "DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM operations)",
    """DELETE FROM resources WHERE id NOT IN (SELECT resource FROM spans
    UNION SELECT resource FROM streams UNION SELECT resource FROM logs)""",
    "INSERT INTO seeds SELECT id FROM operations WHERE nested",
    "UPDATE operations SET nested = 0 WHERE nested",
)
"""Remove the rows of the files in the table `gone`; `NESTED` is to follow."""
