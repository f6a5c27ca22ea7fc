"""The command line, on files."""

from __future__ import annotations

import re

import numpy as np
import pytest

from llmwatch import DriftMonitor
from llmwatch.drift import files, tables
from tests.drift.conftest import WINDOW

pytest.importorskip("click", reason="needs the extra cli")
from click.testing import CliRunner

from llmwatch.drift.__main__ import cli


@pytest.fixture
def folder(tmp_path, domains, monkeypatch):
    np.save(tmp_path / "usual.npy", domains.wordnet[:1000])
    np.savez(tmp_path / "same.npz", x=domains.wordnet[1000:1600], names=np.array(["a"]))
    np.save(tmp_path / "other.npy", domains.bible)
    np.save(tmp_path / "narrow.npy", domains.bible[:, :3])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, status: int) -> str:
    """What a command line says, on either stream."""
    found = CliRunner().invoke(cli, line.split())
    assert found.exit_code == status, found.output
    return found.output


def test_fit_and_test(folder):
    assert "of 1000 embeddings" in run("fit usual.npy reference.npz --window 200", 0)
    assert run("test reference.npz same.npz", 0).count("ok") == 3
    assert run("test reference.npz same.npz --name x", 0).count("ok") == 3
    assert run("test reference.npz other.npy", 1).startswith("window 1: DRIFT, p = ")
    assert "3 dimensions" in run("test reference.npz narrow.npy", 2)


def test_what_cannot_be_done_is_said(folder):
    assert "at least 4 times" in run("fit other.npy r.npz", 2)
    assert "no file of llmwatch" in run("test usual.npy other.npy", 2)
    assert "none.npy" in run("fit none.npy r.npz", 2)
    assert "['x', 'names']" in run("fit same.npz r.npz --name y", 2)
    (folder / "text.npy").write_text("no array")
    assert "cannot be read" in run("fit text.npy r.npz", 2)
    for name in ("empty.npy", "empty.npz"):
        (folder / name).touch()
        assert "cannot be read" in run(f"fit {name} r.npz", 2)
    whole = (folder / "same.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in run("fit cut.npz r.npz", 2)
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 255
    (folder / "damaged.npz").write_bytes(damaged)
    assert "cannot be read" in run("fit damaged.npz r.npz", 2)


def test_the_rate_of_false_alarms_is_that_of_the_whole_file(folder, domains):
    """Where it is a hundred times that of one window, clean windows may still fail."""
    run("fit usual.npy reference.npz --window 200", 0)
    least = min(map(float, re.findall(r"p = ([\d.e-]+)", run("test reference.npz same.npz", 0))))
    p = 2 * least
    assert "DRIFT" not in run(f"test reference.npz same.npz --false-alarm {p:.3g}", 0)
    np.save(folder / "more.npy", domains.wordnet[1000:1450])
    assert "50 embeddings at the end" in run("test reference.npz more.npy", 0)


@pytest.mark.parametrize("fixed", [False, True])
def test_parquet_files_are_read_too(folder, domains, fixed):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kind = pyarrow.list_(pyarrow.float32(), *([384] if fixed else []))
    column = pyarrow.array(list(domains.wordnet[:1000]), kind)
    numbers, names = list(range(1000)), ["a"] * 1000
    table = pyarrow.table({"length": numbers, "embedding": column, "name": names})
    parquet.write_table(table, folder / "usual.parquet")
    read = tables.read(folder / "usual.parquet")
    assert read.tolist() == tables.read(folder / "usual.npy").tolist()
    assert "1000 embeddings" in run("fit usual.parquet r.npz --window 200 --name length", 0)
    assert files.load(folder / "r.npz").dimension == 1
    assert "no list" in run("fit usual.parquet other.npz --name name", 2)


def test_files_of_one_axis_hold_numbers(folder):
    random = np.random.default_rng(0)
    np.save("lengths.npy", random.geometric(0.01, size=1000))
    np.save("shorter.npy", random.geometric(0.02, size=400))
    run("fit lengths.npy reference.npz --window 200", 0)
    assert run("test reference.npz shorter.npy", 1).count("DRIFT") == 2


def test_states_of_replicas_are_merged(folder, reference, domains):
    """As exactly as in one process: a saved state is the same again."""
    files.save(reference, folder / "reference.npz")
    rows = np.concatenate([domains.wordnet[1000:1150], domains.bible[:50]])
    rows = np.random.default_rng(0).permutation(rows)
    replicas = [DriftMonitor(f"r{i}", reference, window=WINDOW) for i in range(2)]
    for index, replica in enumerate(replicas):
        replica.add(rows[index::2], ids="x")
        files.save_state(replica.state(), folder / f"state{index}.npz")
        again = files.load_state(folder / f"state{index}.npz")
        assert again.shift.tolist() == replica.state().shift.tolist()
        assert again.foreign == replica.state().foreign
    said = run("merge reference.npz state0.npz state1.npz --output merged.npz", 1)
    assert said.startswith("200 embeddings of 2 replicas: DRIFT")
    merged = files.load_state(folder / "merged.npz")
    direct = replicas[0].state().merge(replicas[1].state())
    assert merged.counts.tolist() == direct.counts.tolist()
    assert merged.inside.tolist() == direct.inside.tolist()
    assert "it is a state" in run("test state0.npz usual.npy", 2)
    assert "it is a reference" in run("merge reference.npz reference.npz", 2)
