"""How sure a model is of each token: entropy, and the log-probability of the chosen one.

A logits processor behind all others sees the distribution that a token is then chosen from. Which
token that was shows at the next step. Nothing is read from the device until the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import compress
from typing import Any

from llmwatch._guard import Guard
from llmwatch.measure.generation import Confidence

MODES = frozenset({"greedy_search", "sample"})
"""Modes in which one distribution a step is what one token is chosen from."""

_SEE = Guard("transformers.confidence")


class Probe:
    """A logits processor that changes nothing.

    Cost: a softmax over the vocabulary and three small operations a step, and memory for the
    log-probabilities of one step.
    """

    def __init__(self) -> None:
        self._torch = sys.modules["torch"]
        self._before: Any = None
        self._entropies: list[Any] = []
        self._logprobs: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """See ``transformers.LogitsProcessor``."""
        with _SEE:
            self._see(input_ids, scores)
        return scores

    def _see(self, input_ids: Any, scores: Any) -> None:
        torch = self._torch
        with torch.no_grad():
            self._choose(input_ids)
            logprobs = torch.log_softmax(scores, dim=-1)
            self._entropies.append(torch.special.entr(logprobs.exp()).sum(-1))
            self._before = logprobs

    def _choose(self, input_ids: Any) -> None:
        """The last of *input_ids* is what was chosen from the distribution before."""
        if self._before is not None:
            self._logprobs.append(self._before.gather(1, input_ids[:, -1:]).squeeze(1))
            self._before = None

    def close(self, input_ids: Any) -> list[Any]:
        """The entropies and log-probabilities, each (steps, rows), wherever they are.

        Args:
            input_ids: What was generated in the end.
        """
        self._choose(input_ids)
        if not self._entropies or len(self._entropies) != len(self._logprobs):
            return []
        stack = self._torch.stack
        return [stack(self._entropies), stack(self._logprobs)]


def summarise(
    entropies: Sequence[Sequence[float]],
    logprobs: Sequence[Sequence[float]],
    outputs: Sequence[int],
) -> Confidence | None:
    """Means over the tokens that count: those of row r in its first ``outputs[r]`` steps."""
    counted = [[step < length for length in outputs] for step in range(len(entropies))]
    entropy = [
        value for row, keep in zip(entropies, counted, strict=True) for value in compress(row, keep)
    ]
    logprob = [
        value for row, keep in zip(logprobs, counted, strict=True) for value in compress(row, keep)
    ]
    if not entropy:
        return None
    tokens = len(entropy)
    return Confidence(tokens, sum(entropy) / tokens, sum(logprob) / tokens, min(logprob))
