"""How often drift monitors alarm, and how often they should have: the tables of the docs.

``nox -s drift_study`` runs it on the embeddings that the tests ship; ``-- --data FILE`` on others
(npz of ``x`` (n, d), ``domain`` (n,) and, if there are topics inside one domain, ``topics`` (n,)).
Each figure has a 95 % interval, from the variation between references.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.monitor import DriftMonitor
from llmwatch.drift.reference import Reference, fit_reference
from llmwatch.drift.sequential import ShiryaevRoberts
from llmwatch.drift.state import State, measure
from llmwatch.drift.verdict import Verdict, judge

LEVELS = (0.05, 0.001)
SHARES = (0.02, 0.05, 0.10, 0.25)
Rows = NDArray[np.float32]
Draw = Callable[[np.random.Generator, int], NDArray[Any]]


class Fitted(NamedTuple):
    domain: str
    reference: Reference
    rest: NDArray[np.int64]
    """Indices of the domain's embeddings that are not in the reference."""
    random: np.random.Generator


class Data(NamedTuple):
    x: Rows
    domain: NDArray[np.str_]
    topics: NDArray[np.str_]

    def of(self, domain: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.domain == domain)


def load(path: Path) -> Data:
    with np.load(path) as file:
        names = [name for name in ("topics", "lexfile", "wn_lexfile") if name in file]
        topics = file[names[0]].astype(str) if names else np.full(len(file["x"]), "")
        return Data(file["x"].astype(np.float32), file["domain"].astype(str), topics)


def fit_all(data: Data, size: int, window: int, references: int) -> list[Fitted]:
    """References of every domain that is large enough for one and two windows beside it."""
    found = []
    for domain in sorted(set(data.domain)):
        indices = data.of(domain)
        if len(indices) < size + 2 * window:
            continue
        for seed in range(references):
            random = np.random.default_rng([seed, len(found)])
            order = random.permutation(indices)
            reference = fit_reference(data.x[order[:size]], window=window, seed=seed)
            found.append(Fitted(domain, reference, order[size:], random))
    return found


def verdict(reference: Reference, rows: Rows) -> Verdict:
    state = State.empty(reference)
    for start in range(0, len(rows), 64):
        block = rows[start : start + 64]
        state.add(measure(reference, block)[0])
    return judge(reference, state)


def interval(by_reference: list[float], *, digits: int = 1) -> str:
    """Mean and 95 % interval, in per cent."""
    values = 100 * np.array(by_reference)
    half = 1.96 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f} ± {half:.{digits}f}"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for line in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(line)} |")


def clean(data: Data, fitted: list[Fitted], each: int) -> None:
    found = defaultdict(list)
    for one in fitted:
        window = one.reference.window
        p = [
            verdict(one.reference, data.x[one.random.permutation(one.rest)[:window]]).p_value
            for _ in range(each)
        ]
        found[one.domain].append([float(np.mean(np.array(p) <= level)) for level in LEVELS])
    rows = []
    for domain, rates in found.items():
        columns = list(zip(*rates, strict=True))
        line = [domain, str(len(rates))]
        for level, column in zip(LEVELS, columns, strict=True):
            line += [interval(list(column), digits=1 if level > 0.01 else 2), f"{max(column):.1%}"]
        rows.append(line)
    head = ["reference", "references", "at 5 %, %", "worst one", "at 0.1 %, %", "worst one"]
    table(f"False alarms of one verdict ({each} windows a reference)", head, rows)


def mixed(data: Data, one: Fitted, strangers: NDArray[np.int64], share: float) -> Rows:
    window = one.reference.window
    foreign = round(share * window)
    indices = np.concatenate(
        [
            one.random.permutation(one.rest)[: window - foreign],
            one.random.permutation(strangers)[:foreign],
        ]
    )
    return data.x[one.random.permutation(indices)]


def power(data: Data, fitted: list[Fitted], each: int) -> None:
    found: dict[float, list[list[float]]] = defaultdict(list)
    for one in fitted:
        for domain in sorted(set(data.domain) - {one.domain}):
            for share in SHARES:
                if len(data.of(domain)) < share * one.reference.window:
                    continue
                verdicts = [
                    verdict(one.reference, mixed(data, one, data.of(domain), share))
                    for _ in range(each)
                ]
                found[share].append(rates(verdicts))
    lines("Foreign items found, mean over all pairs of domains", "foreign", found)


def topic_shift(data: Data, fitted: list[Fitted], each: int) -> None:
    found: dict[float, list[list[float]]] = defaultdict(list)
    for one in fitted:
        counted = defaultdict(list)
        for index in one.rest:
            if data.topics[index]:
                counted[data.topics[index]].append(index)
        largest = sorted(counted.values(), key=len, reverse=True)[:4]
        for share in SHARES[1:]:
            for indices in largest:
                if len(indices) < share * one.reference.window:
                    continue
                verdicts = [
                    verdict(one.reference, mixed(data, one, np.array(indices), share))
                    for _ in range(each)
                ]
                found[share].append(rates(verdicts))
    if found:
        lines("A topic of the reference's own domain gets more frequent", "more of it", found)


def rates(verdicts: list[Verdict]) -> list[float]:
    together = np.array([each.p_value for each in verdicts])
    centroid = np.array([each.p_centroid for each in verdicts])
    return [float(np.mean(p <= level)) for level in LEVELS for p in (together, centroid)]


def lines(title: str, name: str, found: dict[float, list[list[float]]]) -> None:
    head = [name, "at 5 %, %", "centroid alone", "at 0.1 %, %", "centroid alone"]
    rows = [
        [f"{share:.0%}", *(interval(list(column)) for column in zip(*found[share], strict=True))]
        for share in found
    ]
    table(title, head, rows)


def bursts(data: Data, fitted: list[Fitted], each: int) -> None:
    rows = []
    for many in (2, 5, 25):
        for kind in ("together", "scattered", "thinned by session"):
            found, dependence = [], []
            for one in fitted:
                window, random = one.reference.window, one.random
                size = window if kind.startswith("thinned") else -(-window // many)
                verdicts = []
                for _ in range(each):
                    indices = random.permutation(one.rest)[:size]
                    if not kind.startswith("thinned"):
                        indices = np.repeat(indices, many)[:window]
                    if kind == "scattered":
                        indices = random.permutation(indices)
                    noise = random.normal(0, 0.001, (len(indices), data.x.shape[1]))
                    verdicts.append(verdict(one.reference, data.x[indices] + np.float32(noise)))
                found.append(rates(verdicts)[::2])
                dependence.append(float(np.mean([v.dependence for v in verdicts])))
            five, tenth = zip(*found, strict=True)
            rows.append(
                [
                    f"{many} {kind}",
                    interval(list(five)),
                    interval(list(tenth), digits=2),
                    f"{np.mean(dependence):.1f}",
                ]
            )
    head = ["near-duplicates", "at 5 %, %", "at 0.1 %, %", "dependence found"]
    table("False alarms where items come as near-duplicates", head, rows)


TOPICS = 125
"""Groups of similar texts, of one of which all items of a session are."""


def sessions(data: Data, fitted: list[Fitted], each: int) -> None:
    """Items of a session are of one topic, and otherwise as those of the reference are."""
    rows = []
    for many in (3, 10):
        for kind in ("together", "scattered", "thinned by session"):
            found, dependence = [], []
            for one in fitted:
                window, random, own = one.reference.window, one.random, data.x[one.rest]
                nearest = (own @ own[random.permutation(len(own))[:TOPICS]].T).argmax(1)
                verdicts = []
                for _ in range(each):
                    # Of topics in proportion to their size: the first item of a session is any.
                    first = random.integers(len(own), size=-(-window // many))
                    if kind.startswith("thinned"):
                        picks = random.integers(len(own), size=window)
                    else:
                        alike = [np.flatnonzero(nearest == nearest[index]) for index in first]
                        picks = np.concatenate([random.choice(some, many) for some in alike])
                        picks = picks[:window]
                    if kind == "scattered":
                        picks = random.permutation(picks)
                    verdicts.append(verdict(one.reference, own[picks]))
                found.append(rates(verdicts)[::2])
                dependence.append(float(np.mean([v.dependence for v in verdicts])))
            five, tenth = zip(*found, strict=True)
            rows.append(
                [
                    f"{many} {kind}",
                    interval(list(five)),
                    interval(list(tenth), digits=2),
                    f"{np.mean(dependence):.1f}",
                ]
            )
    head = ["items of a session", "at 5 %, %", "at 0.1 %, %", "dependence found"]
    table("False alarms where the items of a session are of one topic", head, rows)


def raised(data: Data, fitted: list[Fitted], passes: int) -> None:
    """Streams without repetition: drawn with it, they would vary more than fresh items do."""
    rows = []
    for level in LEVELS:
        verdicts = failing = alarms = 0
        for one in fitted:
            window = one.reference.window
            for _ in range(passes):
                monitor = DriftMonitor("study", one.reference, window=window, false_alarm=level)
                before, order = False, one.random.permutation(one.rest)
                for start in range(0, len(order) - window // 2 + 1, window // 2):
                    monitor.add(data.x[order[start : start + window // 2]])
                    (key,) = monitor.status().keys
                    if key.verdict is not None:
                        verdicts += 1
                        failing += key.verdict.p_value <= level
                        alarms += key.alarm and not before
                        before = key.alarm
        rows.append(
            [f"{level:.1%}", f"{verdicts}", f"{failing / verdicts:.2%}", f"{alarms / verdicts:.3%}"]
        )
    head = ["`false_alarm`", "verdicts", "of them fail", "alarms raised a verdict"]
    table("Raised alarms on clean streams", head, rows)


def sequential(data: Data, fitted: list[Fitted]) -> None:
    threshold, longest = 25_000.0, 50_000
    delays: dict[str, list[int]] = defaultdict(list)
    for one in fitted:
        own = bins(one, data.x[one.rest])
        delays[f"{one.domain}, clean"].append(run(one, own, own, 0.0, threshold, longest))
        for domain in sorted(set(data.domain) - {one.domain}):
            strange = bins(one, data.x[data.of(domain)])
            name = f"{one.domain}, 10 % {domain}"
            delays[name].append(run(one, own, strange, 0.1, threshold, 5000))
    rows = [
        [name, f"{np.median(found):.0f}", f"{np.mean(found):.0f}"]
        for name, found in sorted(delays.items())
    ]
    title = f"Items until the sequential detector fires, at a run length of {threshold:.0f}"
    title += f" (stopped at {longest} clean, 5000 foreign)"
    table(title, ["stream", "median", "mean"], rows)


def bins(one: Fitted, rows: Rows) -> NDArray[np.int64]:
    return one.reference.bins(one.reference.subspace.residuals(rows)[2])


def run(
    one: Fitted,
    own: NDArray[np.int64],
    strange: NDArray[np.int64],
    share: float,
    threshold: float,
    longest: int,
) -> int:
    detector = ShiryaevRoberts(one.reference.counts, threshold)
    for index, block in enumerate(blocks(one.random, own, strange, share, longest)):
        if detector.add(block):
            return index + 1
    return longest


def blocks(
    random: np.random.Generator,
    own: NDArray[np.int64],
    strange: NDArray[np.int64],
    share: float,
    many: int,
) -> Iterator[NDArray[np.int64]]:
    for _ in range(many):
        yield random.choice(strange if random.random() < share else own, 1)


def rare(rate: float) -> Draw:
    return lambda random, many: random.random(many) < rate


def together(stay: float) -> Draw:
    """Normal numbers, each of which is like the one before."""

    def draw(random: np.random.Generator, many: int) -> NDArray[np.float64]:
        noise = random.normal(size=many) * (1 - stay**2) ** 0.5
        noise[0] = random.normal()
        return np.array(list(accumulate(noise, lambda before, new: stay * before + new)))

    return draw


def hidden(stay: float) -> Draw:
    """Half of what varies is like the one before, and half is new each time."""
    alike = together(stay)
    return lambda random, many: alike(random, many) + random.normal(size=many)


NUMBERS: dict[str, Draw] = {
    "normal": lambda random, many: random.normal(size=many),
    "log-normal, deviation 2": lambda random, many: np.exp(2 * random.normal(size=many)),
    "lengths cut at 256": lambda random, many: np.minimum(random.geometric(0.01, many), 256),
    "all equal": lambda _, many: np.zeros(many),
    "0 or 1, 0.1 % are 1": rare(0.001),
    "0 or 1, 1 % are 1": rare(0.01),
    "normal, correlation 0.3": together(0.3),
    "normal, correlation 0.6": together(0.6),
    "normal, correlation 0.9": together(0.9),
    "half correlated by 0.9, half new": hidden(0.9),
    "half correlated by 0.95, half new": hidden(0.95),
    "half correlated by 0.98, half new": hidden(0.98),
}
SHIFTS: dict[str, tuple[Draw, Draw]] = {
    "normal, moved by a fifth of its deviation": (
        NUMBERS["normal"],
        lambda random, many: random.normal(size=many) + 0.2,
    ),
    "normal, spread a third larger": (
        NUMBERS["normal"],
        lambda random, many: random.normal(size=many) * 4 / 3,
    ),
    "log-normal, a quarter larger": (
        NUMBERS["log-normal, deviation 2"],
        lambda random, many: 1.25 * np.exp(2 * random.normal(size=many)),
    ),
    "lengths, a quarter shorter": (
        NUMBERS["lengths cut at 256"],
        lambda random, many: np.minimum(random.geometric(0.01 * 4 / 3, many), 256),
    ),
    "refusals, 0 % to 1 %": (NUMBERS["all equal"], rare(0.01)),
    "refusals, 0 % to 2 %": (NUMBERS["all equal"], rare(0.02)),
    "refusals, 1 % to 4 %": (rare(0.01), rare(0.04)),
}


def rates_of(before: Draw, after: Draw, size: int, window: int, references: int) -> list[str]:
    """Shares of failing verdicts at each level."""
    found = []
    for seed in range(references):
        random = np.random.default_rng(seed)
        reference = fit_reference(before(random, size), window=window, seed=seed)
        p = [
            verdict(reference, np.asarray(after(random, window), np.float32)[:, None]).p_value
            for _ in range(30)
        ]
        found.append([float(np.mean(np.array(p) <= level)) for level in LEVELS])
    columns = [list(column) for column in zip(*found, strict=True)]
    return [interval(columns[0]), interval(columns[1], digits=2)]


def numbers(size: int, window: int, references: int) -> None:
    head = ["at 5 %, %", "at 0.1 %, %"]
    rows = [
        [name, *rates_of(draw, draw, size, window, references)] for name, draw in NUMBERS.items()
    ]
    of = f"references of {size}, windows of {window}, {references} references, 30 windows each"
    table(f"False alarms on numbers ({of})", ["numbers", *head], rows)
    rows = [[name, *rates_of(*each, size, window, references)] for name, each in SHIFTS.items()]
    table("Changes of numbers found", ["change", *head], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "embeddings.npz")
    parser.add_argument("--size", type=int, default=1000, help="embeddings in a reference")
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--references", type=int, default=25, help="of each domain")
    chosen = parser.parse_args()
    data = load(chosen.data)
    fitted = fit_all(data, chosen.size, chosen.window, chosen.references)
    print(
        f"References of {chosen.size}, windows of {chosen.window}, {len(fitted)} references with "
        f"seeds 0 to {chosen.references - 1} a domain; {len(data.x)} embeddings of "
        f"{data.x.shape[1]} dimensions."
    )
    clean(data, fitted, 30)
    power(data, fitted, 4)
    topic_shift(data, fitted[1::2], 4)
    bursts(data, fitted[::3], 8)
    sessions(data, fitted[::3], 8)
    raised(data, fitted, 6)
    sequential(data, fitted[::6])
    numbers(2000, 500, 40)


if __name__ == "__main__":
    main()
