"""The index is kept as the store is written, is never in the way, and can always be made again."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from llmwatch.config import Config
from llmwatch.export import local_store
from llmwatch.export.index import files, keeping
from llmwatch.export.index.schema import VERSION
from llmwatch.export.local_store import StoreSpanExporter
from llmwatch.export.store_reader import read_spans
from llmwatch.view.records import Filter
from llmwatch.view.store import open_view
from tests.stores import batches

LIMIT = 64 * 1024 * 1024
SMALL = 1_500_000


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.0)


def exporter(where: Path, limit: int = LIMIT) -> StoreSpanExporter:
    return StoreSpanExporter(Config.load(store_path=where, store_limit=limit))


def few(number: int) -> list[list[ReadableSpan]]:
    """Small batches."""
    batch = next(batches(1))
    return [batch[100 * each : 100 * (each + 1)] for each in range(number)]


def ids_in_index(where: Path) -> set[str]:
    with sqlite3.connect(where / "index.db") as connection:
        found = {row[0] for row in connection.execute("SELECT lower(hex(span)) FROM spans")}
    connection.close()
    return found


def ids_in_files(where: Path) -> set[str]:
    return {span.span_id for span in read_spans(where)}


def ids_in_view(where: Path) -> set[str]:
    """Of spans that are operations and not inside another."""
    view = open_view(where)
    found = {row.span_id for row in view.requests(Filter(), limit=10**9)}
    view.close()
    return found


def assert_answers(where: Path) -> None:
    """What a view finds does not depend on the index it found."""
    bare = where.parent / f"{where.name}-bare"
    shutil.copytree(where, bare, ignore=shutil.ignore_patterns("index.db*"))
    assert ids_in_view(where) == ids_in_view(bare)
    assert ids_in_files(where) == ids_in_files(bare)
    shutil.rmtree(bare)


def test_what_is_written_is_in_the_index_before_anybody_reads(tmp_path: Path) -> None:
    writer = exporter(tmp_path)
    for batch in few(4):
        writer.export(batch)
        assert ids_in_index(tmp_path) == ids_in_files(tmp_path)
    assert_answers(tmp_path)


def test_it_is_opened_once_a_second_at_most_and_once_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVERY", 1000.0)
    writer = exporter(tmp_path)
    for batch in few(4):
        writer.export(batch)
    assert len(ids_in_index(tmp_path)) < len(ids_in_files(tmp_path))
    writer.shutdown()
    assert ids_in_index(tmp_path) == ids_in_files(tmp_path)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    exporter(tmp_path).export(next(batches(10)))
    view = open_view(tmp_path)
    for each in tmp_path.glob("index.db*"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
    view.close()


def test_it_holds_no_content(tmp_path: Path) -> None:
    """Prompts stand in the store's files alone, where retention and the user find them."""
    writer = exporter(tmp_path)
    batch = next(batches(100))
    writer.export(batch)
    secret = b"chatcmpl-"  # any attribute that no table shows
    assert secret in next(tmp_path.glob("traces-*")).read_bytes()
    assert all(secret not in each.read_bytes() for each in tmp_path.glob("index.db*"))


def test_files_that_go_take_their_rows_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_store, "SMALLEST_INDEXED", 0)
    writer = exporter(tmp_path, SMALL)
    for batch in batches(2500):
        writer.export(batch)
    total = sum(each.stat().st_size for each in tmp_path.iterdir())
    assert total <= SMALL * 1.1
    assert ids_in_index(tmp_path) == ids_in_files(tmp_path)
    assert files.size_of_index(tmp_path) < total / 4
    assert_answers(tmp_path)


def test_small_stores_have_none(tmp_path: Path) -> None:
    exporter(tmp_path, 1_000_000).export(next(batches(10)))
    assert not (tmp_path / "index.db").exists()
    assert_answers(tmp_path)


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def _somebody_elses(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE spans (mine)")
    connection.close()


def _behind(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM spans")
        connection.execute("DELETE FROM operations")
        connection.execute("UPDATE files SET offset = 0")
    connection.close()


def _of_another_store(path: Path) -> None:
    exporter(path.parent / "other").export(next(batches(50, seed=5)))
    shutil.copy(path.parent / "other" / "index.db", path)
    shutil.rmtree(path.parent / "other")


def _hole(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\x00" * (len(content) // 2 - 4096)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "hole": _hole,
    "removed": lambda path: path.unlink(),
    "other version": _other_version,
    "somebody else's": _somebody_elses,
    "behind": _behind,
    "of another store": _of_another_store,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_happens_to_it_programs_go_on_and_views_are_right(
    tmp_path: Path, damage: str
) -> None:
    where = tmp_path / "store"
    writer = exporter(where)
    first, second, third = few(3)
    assert writer.export(first).name == "SUCCESS"
    DAMAGES[damage](where / "index.db")
    assert writer.export(second).name == "SUCCESS"
    assert_answers(where)
    assert writer.export(third).name == "SUCCESS"
    assert_answers(where)
    assert ids_in_index(where) == ids_in_files(where)  # it is kept again


@pytest.mark.parametrize("damage", ["garbage", "hole", "removed", "cut"])
def test_a_view_goes_on_when_its_index_breaks(tmp_path: Path, damage: str) -> None:
    where = tmp_path / "store"
    writer = exporter(where)
    batch, more = few(2)
    writer.export(batch)
    view = open_view(where)
    DAMAGES[damage](where / "index.db")
    writer.export(more)
    view.refresh()
    found = {row.span_id for row in view.requests(Filter(), limit=10**9)}
    view.close()
    assert found == ids_in_view(where)
    assert_answers(where)


def test_who_cannot_get_at_it_leaves_the_bytes_to_the_next(tmp_path: Path) -> None:
    writer = exporter(tmp_path)
    first, second, third = few(3)
    writer.export(first)
    holder = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert writer.export(second).name == "SUCCESS"
    assert time.monotonic() - began < 30
    assert len(ids_in_index(tmp_path)) < len(ids_in_files(tmp_path))
    holder.execute("ROLLBACK")
    holder.close()
    writer.export(third)
    assert ids_in_index(tmp_path) == ids_in_files(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_directory_of_somebody_else_is_read_and_not_written(tmp_path: Path) -> None:
    where = tmp_path / "store"
    exporter(where).export(next(batches(10)))
    files.remove_index(where)
    os.chown(where, 12345, 12345)
    assert_answers(where)
    assert not (where / "index.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    where = tmp_path / "store"
    exporter(where).export(next(batches(10)))
    files.remove_index(where)
    where.chmod(0o500)
    assert_answers(where)
    where.chmod(0o700)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    where, precious = tmp_path / "store", tmp_path / "precious"
    where.mkdir()
    precious.write_bytes(b"")
    (where / "index.db").symlink_to(precious)
    assert exporter(where).export(next(batches(10))).name == "SUCCESS"
    assert_answers(where)
    assert precious.read_bytes() == b""


def test_damaged_lines_are_left_out_and_the_rest_is_found(tmp_path: Path) -> None:
    where = tmp_path / "store"
    writer = exporter(where)
    first, second = few(2)
    writer.export(first)
    path = next(where.glob("traces-*"))
    with path.open("ab") as file:
        file.write(b'{"resourceSpans": [{"scopeSpans": 1}]}\n[]\n1\n\xff\xfe\n{}\n\n')
        file.write(b"[" * 100_000 + b"\n")  # deeper than Python can go
    writer.export(second)
    assert {span.context.span_id for span in (*first, *second)} == {
        int(each, 16) for each in ids_in_index(where)
    }


def test_a_line_that_is_being_written_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    where = tmp_path / "store"
    exporter(tmp_path / "other").export(next(batches(10)))
    (source,) = (tmp_path / "other").glob("traces-*")
    line = source.read_bytes().splitlines(keepends=True)[0]
    where.mkdir()
    view = open_view(where)
    for begin in range(0, len(line), len(line) // 5 + 1):
        assert not view.requests(Filter())
        with (where / source.name).open("ab") as file:
            file.write(line[begin : begin + len(line) // 5 + 1])
        view.refresh()
    assert view.requests(Filter())
    view.close()


# --- several processes ---------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from llmwatch.export import local_store
from llmwatch.export.index import keeping
from tests.export.index.test_keeping import exporter
from tests.stores import batches
keeping.EVERY, local_store.SMALLEST_INDEXED = 0.0, 0
writer = exporter(Path(sys.argv[1]), int(sys.argv[4]))
for batch in batches(int(sys.argv[3]), seed=int(sys.argv[2])):
    for begin in range(0, len(batch), 64):
        writer.export(batch[begin : begin + 64])
        print("wrote", flush=True)
"""


def start(where: Path, seed: int, spans: int, limit: int = LIMIT) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, *map(str, (where, seed, spans, limit))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_two_writers_and_a_reader_at_once(tmp_path: Path) -> None:
    where = tmp_path / "store"
    writers = [start(where, seed, 500) for seed in (1, 2)]
    drains = [Thread(target=each.communicate) for each in writers]
    for each in drains:
        each.start()
    view = open_view(where)
    seen = 0
    while any(each.is_alive() for each in drains):
        view.refresh()
        found = len(view.requests(Filter(), limit=10**9))
        assert found >= seen
        seen = found
    for each in drains:
        each.join()
    assert [each.returncode for each in writers] == [0, 0]
    view.refresh()
    assert {row.span_id for row in view.requests(Filter(), limit=10**9)} == ids_in_view(where)
    view.close()
    assert ids_in_index(where) == ids_in_files(where)
    assert_answers(where)


def test_what_is_killed_in_the_midst_of_writing_leaves_it_whole(tmp_path: Path) -> None:
    where = tmp_path / "store"
    for turn in range(3):
        writer = start(where, turn, 100_000)
        assert writer.stdout is not None
        for _ in range(3 + turn):
            writer.stdout.readline()
        time.sleep(0.01 * turn)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert_answers(where)
        with sqlite3.connect(where / "index.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_room_is_made_while_a_view_reads(tmp_path: Path) -> None:
    where = tmp_path / "store"
    writer = start(where, 1, 2500, SMALL)
    drain = Thread(target=writer.communicate)
    drain.start()
    view = open_view(where)
    while drain.is_alive():
        view.refresh()
        for row in view.requests(Filter(), limit=3):
            view.request(row.trace_id, row.span_id)
        view.operations(Filter())
    drain.join()
    assert writer.returncode == 0
    view.refresh()
    assert {row.span_id for row in view.requests(Filter(), limit=10**9)} == ids_in_view(where)
    view.close()
    assert_answers(where)


FORKS = """
import os, sys
from pathlib import Path
from threading import Thread
from llmwatch.export.index import keeping
from tests.export.index.test_keeping import exporter
from tests.stores import batches
keeping.EVERY = 0.0
where = Path(sys.argv[1])
writer = exporter(where)
batch = next(batches(512))
going = Thread(target=lambda: [writer.export(batch[n : n + 8]) for n in range(0, 512, 8)])
going.start()
children = []
for child in range(5):
    if (pid := os.fork()) == 0:
        mine = exporter(where)
        for each in batches(64, seed=child + 10):
            mine.export(each[:64])
        os._exit(0)
    children.append(pid)
going.join()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_that_are_forked_meanwhile_keep_it_too(tmp_path: Path) -> None:
    where = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(where)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.strip() == str([0] * 5)
    assert len(ids_in_files(where)) == 512 + 5 * 64
    assert_answers(where)
    with sqlite3.connect(where / "index.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


WITHOUT = """
import sys
sys.modules["sqlite3"] = None
from pathlib import Path
from tests.stores import fill
fill(Path(sys.argv[1]), 100)
"""


def test_a_python_without_sqlite_writes_all_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], check=True, timeout=60)
    assert ids_in_files(tmp_path)
    assert not list(tmp_path.glob("index.db*"))
