"""Drift: the users of a search service change their language.

    python examples/drift.py

The embeddings are those of a toy: random vectors of a text's letter triples, summed up. They know
nothing of meaning, but, as real ones do, they tell English from German.
"""

from __future__ import annotations

import random
from zlib import crc32

import numpy as np

from llmwatch import DriftMonitor

ENGLISH = """
when does the ferry leave for island harbour tickets cheap price how long queue parking near quay
open late museum lamp street rain tomorrow weather room with view breakfast where can buy fresh
fish market station bus night walk old town map children bicycle rent lost bag
"""
GERMAN = """
wann fährt die fähre zur insel hafen fahrkarten günstig preis wie lange schlange parkplatz nahe
kai geöffnet spät museum lampe straße regen morgen wetter zimmer mit aussicht frühstück wo kann
frischen fisch markt bahnhof bus nacht spaziergang altstadt karte kinder fahrrad mieten tasche
"""


def query(words: str, chance: random.Random) -> str:
    """One question of a few words."""
    return " ".join(chance.choices(words.split(), k=chance.randint(4, 9)))


def embed(text: str) -> np.ndarray:
    """A vector of unit length, of 256 dimensions."""
    triples = [text[start : start + 3] for start in range(len(text) - 2)]
    rows = [np.random.default_rng(crc32(each.encode())).normal(size=256) for each in triples]
    vector = np.sum(rows, axis=0)
    return vector / np.linalg.norm(vector)


def main() -> None:
    """Learn what English questions look like, then let one in five be German, then none."""
    chance = random.Random(7)  # noqa: S311
    monitor = DriftMonitor("queries", "first:800", window=200)
    for _ in range(800):
        monitor.add(embed(query(ENGLISH, chance)))
    monitor.wait()
    for title, share in (("English", 0.0), ("one in five German", 0.2), ("English again", 0.0)):
        for _ in range(600):
            words = GERMAN if chance.random() < share else ENGLISH
            monitor.add(embed(query(words, chance)))
        print(f"{title}\n{monitor.status()}\n")


if __name__ == "__main__":
    main()
