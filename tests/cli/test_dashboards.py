"""``llmwatch dashboards`` writes what is shipped, and nobody's changes are lost by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmwatch.cli.commands import cli
from llmwatch.cli.dashboards import SHIPPED


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["dashboards", *map(str, arguments)])


def test_what_is_shipped_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    ran = run("export", folder)
    assert ran.exit_code == 0
    written = sorted(each.name for each in folder.iterdir())
    assert ran.output.split() == [str(folder / name) for name in written]
    assert {"requests.json", "local-models.json", "gpu-host.json", "drift-quality.json"} < {
        *written
    }
    assert {"llmwatch-drift.rules.yml", "runbooks.md"} < {*written}
    for name in written:
        assert (folder / name).read_text() == (SHIPPED / name).read_text()


def test_doing_it_again_is_no_error(tmp_path: Path) -> None:
    assert run("export", tmp_path).exit_code == 0
    assert run("export", tmp_path).exit_code == 0


@pytest.mark.parametrize("theirs", [b"{}", b"\xff\xfe"])
def test_changes_are_kept_unless_forced(tmp_path: Path, theirs: bytes) -> None:
    (tmp_path / "requests.json").write_bytes(theirs)
    ran = run("export", tmp_path)
    assert ran.exit_code == 1
    assert "requests.json" in ran.output
    assert "--force" in ran.output
    assert [each.name for each in tmp_path.iterdir()] == ["requests.json"]
    assert (tmp_path / "requests.json").read_bytes() == theirs
    assert run("export", "--force", tmp_path).exit_code == 0
    assert json.loads((tmp_path / "requests.json").read_text())["uid"] == "llmwatch-requests"


def test_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        ran = run("export", folder)
        assert ran.exit_code in (1, 2)
        assert str(folder) in ran.output
        assert "Traceback" not in ran.output


def test_each_is_listed_with_what_it_is_about() -> None:
    ran = run("list")
    assert ran.exit_code == 0
    for name in ("requests", "local-models", "gpu-host", "drift-quality"):
        dashboard = json.loads((SHIPPED / f"{name}.json").read_text())
        assert f"{name}.json" in ran.output
        assert dashboard["title"] in ran.output
        assert dashboard["description"] in ran.output
