"""The transformers source keeps the contract of all sources."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast, TextIteratorStreamer
from transformers.generation.utils import GenerationMixin

from tests.sources.contract import SourceContract
from tests.sources.transformers import tiny
from tests.sources.transformers.cases import one


class Joined(TextIteratorStreamer):
    """A streamer that is at its end only when the thread that feeds it is."""

    thread: threading.Thread

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except StopIteration:
            self.thread.join()
            raise


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    words = {f"w{number}": number for number in range(tiny.VOCABULARY)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0")))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
class TestTransformers(SourceContract):
    """Greedy decoding with a tiny Llama."""

    def call(self) -> Any:
        """A few tokens."""
        return tiny.llama().generate(**one(), max_new_tokens=3, pad_token_id=0).tolist()

    def fail(self) -> Any:
        """An argument that transformers refuses."""
        return tiny.llama().generate(**one(), nonsense=1)

    def stream(self) -> Any:
        """Texts from a thread that generates."""
        streamer = Joined(_tokenizer())
        arguments = one() | {"max_new_tokens": 3, "pad_token_id": 0, "streamer": streamer}
        streamer.thread = threading.Thread(target=tiny.llama().generate, kwargs=arguments)
        streamer.thread.start()
        return streamer

    def patched(self) -> list[tuple[Any, str]]:
        """The mixin's choke points."""
        names = (
            "generate",
            "_validate_generated_length",
            "_prepare_cache_for_generation",
            "_get_logits_processor",
            "_get_stopping_criteria",
            "_get_candidate_generator",
            "_has_unfinished_sequences",
        )
        return [(GenerationMixin, name) for name in names]
