"""Open the index of a store, and bring it up to what the files hold.

Bytes are taken in file by file, from where the index says it stopped, a few megabytes in one
transaction: several processes may do so at once, and one that is killed leaves the rest to others.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from llmwatch.export.index import schema
from llmwatch.export.index.intake import Intake
from llmwatch.export.store_reader import OF_STORE

NAME: Final = "index.db"
SUFFIXES: Final = ("", "-wal", "-shm")
"""Of the database itself, and of what sqlite puts beside it."""

CHUNK: Final = 4 * 1024 * 1024
"""Bytes that are taken in in one transaction."""

CACHE: Final = 32 * 1024
"""KiB of pages that sqlite may hold."""

Progress = Callable[[int, int], object]
"""Called with the bytes taken in so far, and with how many there are."""


class Index:
    """An open index; one thread at a time may use it.

    Args:
        where: The directory of the store.
        connection: To its database.
    """

    def __init__(self, where: Path, connection: sqlite3.Connection) -> None:
        self.where = where
        self.connection = connection
        self._run = connection.execute

    def catch_up(self, progress: Progress | None = None) -> bool:
        """Take in what was written since, and forget files that are gone; True if there was any.

        Who else is writing to the index may be waited for: at most as long as it was opened with.

        Raises:
            sqlite3.Error: If the index cannot be written or is broken.
        """
        sizes = _sizes(self.where)
        offsets = self._offsets()
        gone = {name for name, offset in offsets.items() if sizes.get(name, -1) < offset}
        if gone:
            self.forget(gone)
        behind = {
            name: sizes[name] - (0 if name in gone else offsets.get(name, 0))
            for name in sorted(sizes, key=_begun)
        }
        total, done = sum(behind.values()), 0
        for name, size in behind.items():
            taken = CHUNK if size > 0 else 0
            while taken >= CHUNK:
                done += (taken := self.take(name))
                if progress is not None:
                    progress(min(done, total), total)
        return bool(gone or done)

    def take(self, name: str) -> int:
        """Take in the next lines of one file; returns how many bytes those are.

        Less than `CHUNK` says that there are no more.
        """
        try:
            lines = (self.where / name).open("rb")
        except FileNotFoundError:  # made room for newer ones meanwhile
            return 0
        with lines, self._transaction():
            return self._take(name, lines)

    def _take(self, name: str, lines: BinaryIO) -> int:
        self._run("INSERT OR IGNORE INTO files (name, offset) VALUES (?, 0)", (name,))
        file, offset = self._run("SELECT id, offset FROM files WHERE name = ?", (name,)).fetchone()
        intake, position = Intake(self.connection, name.partition("-")[0], file), offset
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                break  # somebody is writing it, or died over it
            intake.take(line, position)
            position += len(line)
            if position - offset >= CHUNK:
                break
        if position > offset:
            intake.finish()
            self._run("UPDATE files SET offset = ? WHERE id = ?", (position, file))
        return int(position - offset)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the rows of some files."""
        with self._transaction():
            for name in names:
                self._run("INSERT INTO gone SELECT id FROM files WHERE name = ?", (name,))
            for statement in (*schema.FORGET, schema.NESTED):
                self._run(statement)
            self._run("DELETE FROM gone")
            self._run("DELETE FROM seeds")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def _offsets(self) -> dict[str, int]:
        return dict(self._run("SELECT name, offset FROM files"))

    def close(self) -> None:
        """Let go of the database."""
        self.connection.close()


def open_index(where: Path, *, wait: float) -> Index:
    """Open the index in *where*, which is made if there is none.

    Raises:
        OSError: If it cannot be made, or is not ours to use.
        sqlite3.Error: If it is broken, or somebody else's, or made by another version.
    """
    path = where / NAME
    _make(path)
    connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # fsync only when the log is folded in
        return Index(where, _prepared(connection))
    except BaseException:
        connection.close()
        raise


def temporary_index(where: Path) -> Index:
    """An index of *where* that only this process sees; sqlite keeps what is large on disk."""
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    return Index(where, _prepared(connection))


def size_of_index(where: Path) -> int:
    """Bytes that the index in *where* takes."""
    found = 0
    for suffix in SUFFIXES:
        try:
            found += (where / f"{NAME}{suffix}").stat().st_size
        except OSError:
            continue
    return found


def remove_index(where: Path) -> None:
    """Remove the index in *where*; the next one to look makes it again."""
    for suffix in SUFFIXES:
        (where / f"{NAME}{suffix}").unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Make the file, for our eyes only, if it is not there."""
    owner = path.parent.stat().st_uid
    if hasattr(os, "geteuid") and owner != os.geteuid():
        raise PermissionError(f"{path.parent} belongs to somebody else")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
            raise PermissionError(f"{path} is not ours") from None


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    run = connection.execute
    run(f"PRAGMA cache_size = -{CACHE}")
    run("PRAGMA temp_store = MEMORY")
    if run("PRAGMA user_version").fetchone() != (schema.VERSION,):
        _create(connection)
    if run("PRAGMA application_id").fetchone() != (schema.APPLICATION,):
        raise sqlite3.DatabaseError("not an index of llmwatch")
    run("CREATE TEMP TABLE seeds (id INTEGER PRIMARY KEY)")
    run("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    run = connection.execute
    run("BEGIN IMMEDIATE")
    try:
        if run("PRAGMA user_version").fetchone() == (schema.VERSION,):
            return  # somebody else was faster
        if run("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
            raise sqlite3.DatabaseError("an index of another version")
        for statement in schema.SCHEMA.split(";"):
            run(statement)
        run(f"PRAGMA application_id = {schema.APPLICATION}")
        run(f"PRAGMA user_version = {schema.VERSION}")
    except BaseException:
        run("ROLLBACK")
        raise
    finally:
        if connection.in_transaction:
            run("COMMIT")


def _sizes(where: Path) -> dict[str, int]:
    found = {}
    try:
        paths = list(where.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for path in paths:
        if OF_STORE.fullmatch(path.name):
            try:
                found[path.name] = path.stat().st_size
            except FileNotFoundError:
                continue
    return found


def _begun(name: str) -> str:
    """What orders files by when they were begun, whatever their signal."""
    return name.partition("-")[2]
