"""The command line, on files."""

from __future__ import annotations

import numpy as np
import pytest

from llmwatch.drift.__main__ import main


@pytest.fixture
def folder(tmp_path, domains):
    np.save(tmp_path / "usual.npy", domains.wordnet[:1000])
    np.savez(tmp_path / "same.npz", x=domains.wordnet[1000:1600], names=np.array(["a"]))
    np.save(tmp_path / "other.npy", domains.bible)
    np.save(tmp_path / "narrow.npy", domains.bible[:, :3])
    return tmp_path


def test_fit_and_test(folder, capsys):
    reference = str(folder / "reference.npz")
    assert main(["fit", str(folder / "usual.npy"), reference, "--window", "200"]) == 0
    assert "of 1000 embeddings" in capsys.readouterr().out
    assert main(["test", reference, str(folder / "same.npz")]) == 0
    assert capsys.readouterr().out.count("ok") == 3
    assert main(["test", reference, str(folder / "other.npy")]) == 1
    assert capsys.readouterr().out.startswith("window 1: DRIFT, p = ")
    assert main(["test", reference, str(folder / "narrow.npy")]) == 2
    assert "3 dimensions" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(folder, capsys):
    assert main(["fit", str(folder / "other.npy"), str(folder / "r.npz")]) == 2
    assert "at least 4 times" in capsys.readouterr().err
    assert main(["test", str(folder / "usual.npy"), str(folder / "other.npy")]) == 2
    assert main(["fit", str(folder / "none.npy"), str(folder / "r.npz")]) == 2
    (folder / "text.npy").write_text("no array")
    assert main(["fit", str(folder / "text.npy"), str(folder / "r.npz")]) == 2
