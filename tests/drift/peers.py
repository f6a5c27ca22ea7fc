"""How other tools judge the same windows: ``python tests/drift/peers.py TOOL``, in its own venv.

TOOL is evidently, frouros, river, alibi or llmwatch. References of 1000 glosses, windows of 200: clean
ones, with a tenth of Bible verses, and verses alone; one of each for every seed. Where a tool
gives a p-value it is held against 5 %, else its own default decides. Not part of the tests:
alibi-detect needs numpy 1.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

SIZE, WINDOW, FOREIGN = 1000, 200, 20
SEEDS = int(os.environ.get("SEEDS", "20"))
Windows = dict[str, np.ndarray]
Found = Iterator[tuple[str, str, bool, float]]


def cases() -> Iterator[tuple[int, np.ndarray, Windows]]:
    """For each seed the reference and its windows."""
    with np.load(Path(__file__).parent / "embeddings.npz") as file:
        x, domain = file["x"].astype(np.float32), file["domain"]
    glosses, verses = x[domain == "wordnet"], x[domain == "bible"]
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        rows = random.permutation(glosses)
        clean = rows[SIZE : SIZE + WINDOW]
        mixed = clean.copy()
        mixed[:FOREIGN] = random.permutation(verses)[:FOREIGN]
        windows = {"clean": clean, "a tenth": random.permutation(mixed), "all": verses[:WINDOW]}
        yield seed, rows[:SIZE], windows


def llmwatch() -> Found:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from llmwatch.drift.commands import verdicts
    from llmwatch.drift.reference import fit_reference

    for seed, reference, windows in cases():
        fitted = fit_reference(reference, window=WINDOW, seed=seed)
        for kind, rows in windows.items():
            started = perf_counter()
            p_value = verdicts(fitted, rows)[0].p_value
            took = perf_counter() - started
            yield "llmwatch at 5 %", kind, p_value <= 0.05, took
            yield "llmwatch at 0.1 %", kind, p_value <= 0.001, took


def evidently() -> Found:
    import pandas as pd
    from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

    for _, reference, windows in cases():
        for kind, rows in windows.items():
            for name in ("mmd", "distance", "model"):
                started = perf_counter()
                found = getattr(methods, name)()(pd.DataFrame(reference), pd.DataFrame(rows))
                yield f"Evidently {name}", kind, bool(found[1]), perf_counter() - started


def frouros() -> Found:
    from frouros.callbacks import PermutationTestDistanceBased
    from frouros.detectors.data_drift import MMD

    for seed, reference, windows in cases():
        for kind, rows in windows.items():
            test = PermutationTestDistanceBased(
                num_permutations=100, random_state=seed, num_jobs=1, name="p", verbose=False
            )
            detector = MMD(callbacks=[test])
            detector.fit(X=reference)
            started = perf_counter()
            _, log = detector.compare(X=rows)
            yield "frouros MMD", kind, log["p"]["p_value"] <= 0.05, perf_counter() - started


def river() -> Found:
    from river.drift import ADWIN

    for _, reference, windows in cases():
        mean = reference.mean(axis=0)
        for kind, rows in windows.items():
            detector, found = ADWIN(), False
            for row in reference:
                detector.update(float(np.linalg.norm(row - mean)))
            started = perf_counter()
            for row in rows:
                detector.update(float(np.linalg.norm(row - mean)))
                found |= detector.drift_detected
            yield "river ADWIN, distance to the mean", kind, found, perf_counter() - started


def alibi() -> Found:
    from alibi_detect.cd import MMDDrift

    for _, reference, windows in cases():
        detector = MMDDrift(reference, backend="pytorch", p_val=0.05)
        for kind, rows in windows.items():
            started = perf_counter()
            found = detector.predict(rows)["data"]["is_drift"]
            yield "alibi-detect MMDDrift", kind, bool(found), perf_counter() - started


def main() -> None:
    warnings.filterwarnings("ignore")  # theirs
    alarms: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    times: dict[str, list[float]] = defaultdict(list)
    for name, kind, alarm, took in globals()[sys.argv[1]]():
        alarms[name][kind].append(alarm)
        times[name].append(took)
    for name, by_kind in alarms.items():
        cells = [f"{sum(each)} of {len(each)}" for each in by_kind.values()]
        print(f"| {name} | {' | '.join(cells)} | {1e3 * float(np.median(times[name])):.1f} |")


if __name__ == "__main__":
    main()
