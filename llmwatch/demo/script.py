"""What the demo server does with one request: when it answers, with what, and how it fails.

Delays are requests to the event loop, never the truth: the truth is the stamp that the server
takes round each write (see `llmwatch.demo.wire.Write`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

SCRIPT_HEADER = "x-llmwatch-script"
"""Request header that carries a script as JSON; it goes before the server's own scripts."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """One answer. The defaults: at once, whole, without fault.

    ``delays`` hold only for *output* (text, reasoning, tool arguments, audio, images); what frames
    it (the role chunk, ``response.created``, the usage chunk) is written without waiting.
    """

    delay: float = 0.0
    """Seconds between receiving the request and sending the headers."""
    delays: tuple[float, ...] = ()
    """Seconds before the first, second, … write of output; the last one holds from there on."""
    chunks: int = 12
    """Pieces of text, one a chunk and one a token (with `text`: as many as it has words)."""
    text: str | None = None
    """What to answer; None: some prose, or a JSON value where the request asks for a schema."""
    reasoning: int = 0
    """Pieces of reasoning before the output."""
    tool_calls: int = 0
    """Calls of the offered tools, instead of text."""
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"
    """Why the model stopped (a tool call has its own reason)."""
    cached_tokens: int = 0
    """Input tokens reported as read from the cache."""
    usage: bool = True
    """False: report no usage, even where it was asked for."""
    burst: int = 1
    """Events in one network write."""
    status: int = 200
    """Any other: answer with this error."""
    retry_after: float | None = None
    """Seconds that an error answer asks the client to wait."""
    refuse_stream_options: bool = False
    """Answer 400 to a request with ``stream_options``, as some compatible servers do."""
    fault: Literal["drop", "hang", "error"] | None = None
    """Break the connection, stay silent until the client leaves, or send an error event and end."""
    fault_after: int | None = None
    """Events written before the fault; None: before the headers (an error event: the first)."""

    @property
    def headers(self) -> dict[str, str]:
        """This script as request headers: ``create(…, extra_headers=script.headers)``."""
        given = {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}
        return {SCRIPT_HEADER: json.dumps(given)}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Script | None:
        """The script that a request carries, if any (header names in lower case)."""
        if (text := headers.get(SCRIPT_HEADER)) is None:
            return None
        given = json.loads(text)
        if "delays" in given:
            given["delays"] = tuple(given["delays"])
        return cls(**given)


_DEFAULTS = {each.name: each.default for each in fields(Script)}
