"""What drift monitors last said, from their gauges."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Any, Final, NamedTuple

from llmwatch import semconv
from llmwatch.view.queries.charts import last_of
from llmwatch.view.queries.selection import Stream, streams
from llmwatch.view.records import DriftLight, Filter

LIVING: Final = 180 * 10**9
"""Nanoseconds: of several processes with one monitor, those count whose last word is no older than
this beside the latest; the others have ended."""

FIELDS: Final = {
    semconv.DRIFT_METRICS[name].name: name
    for name in ("alarm", "p_value", "effect", "centroid", "embeddings")
}


class Monitor(NamedTuple):
    """What lights are told apart by."""

    service: str
    monitor: str
    model: str | None
    key: str | None


class Word(NamedTuple):
    """What one process said last of one monitor."""

    time: int
    values: dict[str, float]


def drift(rows: sqlite3.Connection, by: Filter) -> list[DriftLight]:
    """One light a monitor and key; of several processes, one that raised an alarm speaks."""
    said: defaultdict[Monitor, defaultdict[int, dict[str, tuple[int, float]]]]
    said = defaultdict(lambda: defaultdict(dict))
    for stream in streams(rows, FIELDS, by):
        if stream.attributes.get(semconv.DRIFT_STATISTIC, "all") == "all":
            last = last_of(rows, stream, by.until, by.since or 0)
            words = said[_monitor(stream)][stream.resource]
            field = FIELDS[stream.metric]
            if last is not None and last.time >= words.get(field, (0, 0.0))[0]:
                words[field] = last.time, last.value
    lights = [
        _light(monitor, [_word(words) for words in processes.values() if "alarm" in words])
        for monitor, processes in said.items()
    ]
    return sorted((each for each in lights if each is not None), key=_order)


def _monitor(stream: Stream) -> Monitor:
    found = stream.attributes
    return Monitor(
        stream.service,
        str(found.get(semconv.DRIFT_MONITOR, "")),
        found.get(semconv.REQUEST_MODEL),
        found.get(semconv.DRIFT_KEY),
    )


def _word(words: dict[str, tuple[int, float]]) -> Word:
    return Word(words["alarm"][0], {name: value for name, (_, value) in words.items()})


def _light(monitor: Monitor, words: list[Word]) -> DriftLight | None:
    if not words:
        return None
    latest = max(word.time for word in words)
    living = [word for word in words if latest - word.time <= LIVING]
    time, values = max(living, key=lambda word: (word.values["alarm"] > 0, word.time))
    embeddings = values.get("embeddings")
    return DriftLight(
        service=monitor.service,
        monitor=monitor.monitor,
        model=monitor.model,
        key=monitor.key,
        alarm=values["alarm"] > 0,
        p_value=values.get("p_value"),
        effect=values.get("effect"),
        centroid=values.get("centroid"),
        embeddings=None if embeddings is None else int(embeddings),
        time=time,
    )


def _order(light: DriftLight) -> tuple[Any, ...]:
    return light.service, light.monitor, light.model or "", light.key or ""
