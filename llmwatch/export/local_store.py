"""The embedded store: a bounded directory of OTLP/JSON lines, for when no collector is configured.

One line is one ``Export{Trace,Metrics,Logs}ServiceRequest`` in OTLP/JSON (hex ids, integer enums,
64-bit integers as strings), in files named ``{signal}-{time}-{process id}.jsonl``. Each process
writes files of its own, so several may share the directory; the oldest files go when all of them
together exceed the limit. Content that was captured is in there: only the owner may read it.
``index.db`` says what is where (see `llmwatch.export.index`).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from llmwatch._guard import Guard
from llmwatch.config import Config
from llmwatch.export import dropped
from llmwatch.export.dropped import Signal
from llmwatch.export.store_reader import OF_STORE

if TYPE_CHECKING:
    from llmwatch.export.index.keeping import Keeper

_log = logging.getLogger("llmwatch")
_INDEX = Guard("store.index")

LINE_ITEMS = 64
"""Spans or log records in one line: a line stays far below the limit even with content in it."""

MAX_FILES = 1000
"""Files kept: short-lived processes leave small ones, and every export looks through the names."""

SMALLEST_INDEXED = 8 * 1024 * 1024
"""Below this limit no index is kept: there is little to find, and little room."""

CLOCKS_DIFFER = 60.0
"""Seconds that the clock of a file system may be ahead of ours."""

LOG_EVERY = 60.0
"""Seconds between two warnings that nothing can be written."""


def directory(config: Config) -> Path:
    """Where the store is: ``store_path``, else ``llmwatch`` under the XDG state directory."""
    if config.store_path is not None:
        return Path(config.store_path).expanduser()
    return default_directory()


def default_directory() -> Path:
    """``$XDG_STATE_HOME/llmwatch``, else ``~/.local/state/llmwatch``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():  # the XDG specification: ignore relative ones
        return Path(state) / "llmwatch"
    try:
        return Path.home() / ".local" / "state" / "llmwatch"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"llmwatch-{os.getuid()}"


class StoreFile:
    """Appends lines to the current file of one signal, and keeps the directory in bounds.

    Nothing is held open between two exports: a file that another process removed is made again,
    and a fork shares no descriptor.

    Args:
        where: The directory; made when the first line is written.
        signal: First part of the file names.
        limit: Bytes that all files of the directory may take together.
        age: Seconds after which a file goes that nobody wrote to since; a file is written to for a
            sixteenth of that, so nothing in it is older than that by more. None: any.
    """

    def __init__(self, where: Path, signal: Signal, limit: int, age: float | None = None) -> None:
        self._where = where
        self._signal = signal
        self._losses = dropped.losses
        self._limit = limit
        self._file_limit = limit // 16
        self._age = inf if age is None else age
        self._begun = 0.0
        self._path: Path | None = None
        self._warned = -LOG_EVERY
        self._index = _keeper(where) if limit >= SMALLEST_INDEXED else None

    def append(self, lines: Iterable[tuple[int, bytes]]) -> bool:
        """Write lines, each with the number of items in it.

        Returns:
            False if nothing could be written. What is lost of a batch otherwise (a full disk, one
            line above the limit) is counted here.
        """
        written = lost = 0
        for items, line in lines:
            try:
                done = self._append(line)
            except OSError as error:
                self._warn(error)
                done = False
            written += items if done else 0
            lost += 0 if done else items
        if written and self._index is not None:
            with _INDEX:
                self._index.keep()
        if written and lost:
            self._losses.add(self._signal, lost)
        return not lost or bool(written)

    def close(self) -> None:
        """Leave the index behind as far as it can be brought."""
        if self._index is not None:
            with _INDEX:
                self._index.keep(now=True)

    def _append(self, line: bytes) -> bool:
        if len(line) > self._limit:
            return False
        self._where.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(len(line))
        path = self._current(len(line))
        _write(path, line)
        if self._index is not None:
            self._index.wrote(path.name)
        return True

    def _current(self, size: int) -> Path:
        if self._path is not None and 0 <= time() - self._begun <= self._age / 16:
            try:
                if self._path.stat().st_size + size <= self._file_limit:
                    return self._path
            except FileNotFoundError:
                pass
        self._begun = time()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path = self._where / f"{self._signal}-{stamp}-{os.getpid()}.jsonl"
        return self._path

    def _make_room(self, size: int) -> None:
        files = _files(self._where)
        total = sum(length for _, length, _ in files) + size + self._size_of_index()
        excess = len(files) - MAX_FILES + 1
        now = time()
        # The clock was set back: what is of the future would never be the oldest.
        files.sort(key=lambda file: (file[0] <= now + CLOCKS_DIFFER, file[0]))
        for written, length, path in files:
            if total <= self._limit and excess <= 0 and written >= now - self._age:
                continue
            path.unlink(missing_ok=True)
            total -= length
            excess -= 1
            if self._index is not None:
                self._index.removed(path.name)

    def _size_of_index(self) -> int:
        """It takes a sixth of what it is of; a stray one may not cost the store its files."""
        return 0 if self._index is None else min(self._index.size, self._limit // 4)

    def _warn(self, error: OSError) -> None:
        if monotonic() - self._warned >= LOG_EVERY:
            self._warned = monotonic()
            _log.warning(
                "llmwatch cannot write to its store %s (%s); what it cannot write is dropped. "
                "Set store_path= to a directory with room, or endpoint= to send to a collector.",
                self._where,
                error.strerror or error,
            )


def _keeper(where: Path) -> Keeper | None:
    try:
        from llmwatch.export.index.keeping import Keeper
    except ImportError:  # an interpreter that was built without sqlite3
        return None
    return Keeper(where)


def _files(where: Path) -> list[tuple[float, int, Path]]:
    found = []
    for path in where.iterdir():
        if not OF_STORE.fullmatch(path.name):
            continue  # the user may keep other things there
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process made room too
            continue
        found.append((stat.st_mtime, stat.st_size, path))
    return found


def _write(path: Path, line: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError:
            os.ftruncate(descriptor, before)  # a torn line would spoil the next one
            raise
    finally:
        os.close(descriptor)


class StoreSpanExporter(SpanExporter):
    """Writes spans to the store."""

    def __init__(self, config: Config) -> None:
        self._file = StoreFile(directory(config), "traces", config.store_limit, config.store_age)
        self._encode = _encoder("trace_encoder", "encode_spans")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write; FAILURE if nothing could be written."""
        done = self._file.append(_lines(spans, self._encode))
        return SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Leave an index behind that is up to date."""
        self._file.close()


class StoreLogExporter(LogRecordExporter):
    """Writes events to the store."""

    def __init__(self, config: Config) -> None:
        self._file = StoreFile(directory(config), "logs", config.store_limit, config.store_age)
        self._encode = _encoder("_log_encoder", "encode_logs")

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write; FAILURE if nothing could be written."""
        done = self._file.append(_lines(batch, self._encode))
        return LogRecordExportResult.SUCCESS if done else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Leave an index behind that is up to date."""
        self._file.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back."""
        return True


class StoreMetricExporter(MetricExporter):
    """Writes metrics to the store."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._file = StoreFile(directory(config), "metrics", config.store_limit, config.store_age)
        self._encode = _encoder("metrics_encoder", "encode_metrics")

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Write; FAILURE if nothing could be written."""
        done = self._file.append([(1, to_json(self._encode(metrics_data)))])
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Leave an index behind that is up to date."""
        self._file.close()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held back."""
        return True


def _encoder(module: str, name: str) -> Callable[[Any], Any]:
    """One of OpenTelemetry's encoders; imports all that writing needs while forks wait."""
    import_module("google.protobuf.json_format")
    encoder = getattr(import_module(f"opentelemetry.exporter.otlp.proto.common.{module}"), name)
    return cast(Callable[[Any], Any], encoder)


def _lines(
    items: Sequence[Any], encode: Callable[[Sequence[Any]], Any]
) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(items), LINE_ITEMS):
        chunk = items[start : start + LINE_ITEMS]
        yield len(chunk), to_json(encode(chunk))


def to_json(request: Any) -> bytes:
    """One line of OTLP/JSON from an ``Export…ServiceRequest``, with the newline."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    found = MessageToDict(request, use_integers_for_enums=True)
    _ids_to_hex(found)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_ID_KEYS = ("traceId", "spanId", "parentSpanId")
_HOLD_NO_IDS = frozenset({"attributes", "resource", "scope", "body"})


def _ids_to_hex(node: Any) -> None:
    """OTLP/JSON writes ids in hex, where protobuf's own mapping writes base64."""
    if isinstance(node, list):
        for each in node:
            _ids_to_hex(each)
    elif isinstance(node, dict):
        for key in _ID_KEYS:
            if key in node:
                node[key] = b64decode(node[key]).hex()
        for key, child in node.items():
            if isinstance(child, (dict, list)) and key not in _HOLD_NO_IDS:
                _ids_to_hex(child)
