"""What a rule is, and how it is written as YAML.

Rules are flat, so that they need no YAML library: expressions go into block scalars, and every
other text is written as JSON, which YAML reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import dedent, indent
from typing import Literal

Severity = Literal["page", "ticket"]

COUNT, PRECISE = '{{ $value | printf "%.0f" }}', '{{ $value | printf "%.2f" }}'
PERCENT = "{{ $value | humanizePercentage }}"
"""In the texts of an alert: what its expression gave."""


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    about: str
    """What it records, as a comment."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """An alert; its texts are templates of Prometheus."""

    name: str
    severity: Severity
    expr: str
    summary: str
    description: str
    hold: str = "0s"
    """How long *expr* must be true before it fires."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Record | Alert, ...]


def block(text: str) -> str:
    """An expression as it is written: without the indentation of its place in the code."""
    return dedent(text).strip()


def anchor(alert: str) -> str:
    """The place in runbooks.md that is about an alert."""
    return f"#{alert.lower()}"


def written(groups: list[Group], values: Mapping[str, object]) -> str:
    """A file of rules."""
    lines = ["groups:"]
    for group in groups:
        lines += [f"  - name: {group.name}", f"    interval: {values['interval']}", "    rules:"]
        for rule in group.rules:
            body = _record(rule) if isinstance(rule, Record) else _alert(rule, values)
            lines.append(indent("\n".join(body), "      "))
    return "\n".join(lines) + "\n"


def _record(rule: Record) -> Iterator[str]:
    yield f"# {rule.about}"
    yield f"- record: {rule.name}"
    yield from _expr(rule.expr)
    yield from _texts("labels", rule.labels)


def _alert(rule: Alert, values: Mapping[str, object]) -> Iterator[str]:
    yield f"- alert: {rule.name}"
    yield from _expr(rule.expr)
    if rule.hold != "0s":
        yield f"  for: {rule.hold}"
    severity = str(values[f"severity.{rule.severity}"])
    yield from _texts("labels", {"severity": severity, **rule.labels})
    runbook = f"{values['runbooks'] or 'runbooks.md'}{anchor(rule.name)}"
    key = "runbook_url" if values["runbooks"] else "runbook"
    texts = {"summary": rule.summary, "description": rule.description, key: runbook}
    yield from _texts("annotations", texts)


def _expr(text: str) -> Iterator[str]:
    yield "  expr: |-"
    yield indent(block(text), "    ")


def _texts(key: str, texts: Mapping[str, str]) -> Iterator[str]:
    if texts:
        yield f"  {key}:"
        for name, text in texts.items():
            yield f"    {name}: {json.dumps(text, ensure_ascii=False)}"
