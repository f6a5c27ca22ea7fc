"""``llmwatch store`` tells what is there, and makes the index again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmwatch.cli.commands import cli
from tests.stores import fill


def said(*arguments: str) -> dict[str, str]:
    done = CliRunner().invoke(cli, ["store", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return {name: rest for line in done.stdout.splitlines() for name, rest in [line.split(None, 1)]}


def test_it_counts_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, 500)
    found = said("--path", str(tmp_path))
    assert found["folder"] == str(tmp_path)
    assert re.fullmatch(r"0\.\d MiB in 1 files", found["size"])
    assert int(found["spans"]) >= int(found["operations"]) > 100
    assert found["points"] == "0"
    assert re.match(r"2027-01-1\d .* to 2027-01-1\d ", found["time"])
    assert set(found["services"].split(", ")) <= {"shop", "search", "batch"}


def test_the_index_is_made_again_where_asked(tmp_path: Path) -> None:
    fill(tmp_path, 500)
    before = said("--path", str(tmp_path))
    (tmp_path / "index.db").write_bytes(b"broken, but not so that it shows")
    again = said("--path", str(tmp_path), "--reindex")
    assert {**again, "index": ""} == {**before, "index": ""}
    assert (tmp_path / "index.db").read_bytes().startswith(b"SQLite format 3")


def test_an_index_that_cannot_be_removed_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "index.db").mkdir()
    done = CliRunner().invoke(cli, ["store", "--reindex", "--path", str(tmp_path)])
    assert done.exit_code == 1
    assert "index.db" in done.output


def test_an_empty_store_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMWATCH_STORE_PATH", str(tmp_path / "nowhere"))
    found = said()
    assert found["folder"] == str(tmp_path / "nowhere")
    assert found["size"] == "0.0 MiB in 0 files"
    assert found["services"] == "none yet"
    assert "time" not in found
