"""What went into a generation and what came out, in the message schema of the conventions.

Loaded only where content is captured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch.config import Config
from llmwatch.signals.content import Content
from llmwatch.signals.operation import Operation

Message = dict[str, Any]


class Describe:
    """Writes a pipeline's prompts and answers on the operation that ``generate`` opened.

    Args:
        config: The settings.
        tokenizer: What turns ids into text; the pipeline's own.
        prompts: A text or a chat, or a list of them: a batch.
        tensors: What the model is given.
    """

    def __init__(self, config: Config, tokenizer: Any, prompts: Any, tensors: Any) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._prompts = prompts if isinstance(prompts, list) else [prompts]
        ids = tensors.get("input_ids")
        self._start = 0 if ids is None else int(ids.shape[-1])

    def __call__(self, operation: Operation, result: Any) -> None:
        """Take what ``generate`` returned: ids, or an output that holds them."""
        operation.content = content = Content(self._config)
        content.input_messages = self._asked
        sequences = getattr(result, "sequences", result)
        reasons = operation.finish_reasons or []
        content.output_messages = lambda: self._answered(sequences, reasons)

    def _asked(self) -> list[Message]:
        return [message for prompt in self._prompts for message in messages(prompt)]

    def _answered(self, sequences: Any, reasons: list[str]) -> list[Message]:
        rows = sequences[:, self._start :].tolist()
        return [
            {
                "role": "assistant",
                "parts": [_text(self._tokenizer.decode(row, skip_special_tokens=True))],
                "finish_reason": reasons[index] if index < len(reasons) else "stop",
            }
            for index, row in enumerate(rows)
        ]


def messages(prompt: Any) -> list[Message]:
    """One prompt as messages: those of a chat, or one of the user."""
    if isinstance(prompt, str):
        return [{"role": "user", "parts": [_text(prompt)]}]
    return [_message(each) for each in getattr(prompt, "messages", ())]


def _message(given: Mapping[str, Any]) -> Message:
    content = given.get("content")
    parts = [_part(each) for each in content] if isinstance(content, (list, tuple)) else []
    if isinstance(content, str):
        tool = given.get("role") == "tool"
        parts = [{"type": "tool_call_response", "response": content} if tool else _text(content)]
    parts += [_tool_call(each) for each in given.get("tool_calls") or ()]
    return {"role": str(given.get("role")), "parts": parts}


def _part(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return _text(given)
    if isinstance(given, Mapping) and isinstance(text := given.get("text"), str):
        return _text(text)
    kind = given.get("type") if isinstance(given, Mapping) else type(given).__name__
    return {"type": str(kind)}


def _tool_call(given: Mapping[str, Any]) -> dict[str, Any]:
    function = given.get("function") or given
    return {
        "type": "tool_call",
        "name": str(function.get("name")),
        "arguments": function.get("arguments"),
    }


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}
