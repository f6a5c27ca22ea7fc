"""A language model in this process answers a few questions, as any program would let it.

Nothing in here knows that it is watched, but for the names that it gives to what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llmwatch

LONGEST = 40
"""Tokens of an answer at most: the demo shall not take long on a slow machine."""


class Task(NamedTuple):
    """Some questions that are answered in one call, and how."""

    title: str
    questions: tuple[str, ...]
    settings: dict[str, Any]


TASKS = (
    Task("greedy", ("What is the capital of France?",), {"do_sample": False}),
    Task(
        "sampled",
        ("Describe a harbour at dusk, in two sentences.",),
        {"do_sample": True, "temperature": 0.7, "top_p": 0.95},
    ),
    Task(
        "speculative",
        ("Repeat this sentence: The old ferry leaves the harbour at nine and comes back at noon.",),
        {"do_sample": False, "prompt_lookup_num_tokens": 6},
    ),
    Task(
        "batch of 3",
        (
            "What is the capital of Norway?",
            "What is the tallest mountain on the moon?",
            "What is 17 times 23?",
        ),
        {"do_sample": False},
    ),
)


class Steps:
    """A streamer that only says that there was a step."""

    def __init__(self, stepped: Callable[[], object]) -> None:
        self._stepped = stepped

    def put(self, tokens: Any) -> None:
        """First the prompt, then each new token, or several."""
        self._stepped()

    def end(self) -> None:
        """That was the last one."""


def answer(
    model: Any, tokenizer: Any, task: Task, stepped: Callable[[], object] = lambda: None
) -> list[str]:
    """Let the model answer; *stepped* is called after each token."""
    from transformers import set_seed

    tokenizer.padding_side = "left"  # an answer follows its question at once
    chats = [[{"role": "user", "content": question}] for question in task.questions]
    asked = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    set_seed(7)
    with llmwatch.attributes(route=task.title):
        ids = model.generate(
            **asked, max_new_tokens=LONGEST, streamer=Steps(stepped), **task.settings
        )
    length = asked["input_ids"].shape[1]
    answers: list[str] = tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)
    return answers


def most_steps(tasks: Sequence[Task]) -> int:
    """How often `answer` says that it stepped, at most."""
    return len(tasks) * (LONGEST + 1)
