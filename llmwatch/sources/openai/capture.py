"""Give an operation its content: the only way to the modules that read it.

Those are imported here, when first content is captured: most programs never need them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from llmwatch.config import CaptureContent, Config
from llmwatch.signals.operation import Operation
from llmwatch.sources.openai.routes import Route


def capture_request(
    operation: Operation, route: Route, body: Mapping[str, Any], config: Config
) -> None:
    """Note a request's content; it is converted when the operation ends.

    Args:
        operation: Gets the content, unless none is captured.
        route: What kind of request it is.
        body: Its JSON body; it is kept, and nothing of it is changed.
        config: Says whether content is captured.
    """
    if config.capture_content is CaptureContent.NO_CONTENT:
        return
    from llmwatch.signals.content import Content
    from llmwatch.sources.openai import content

    operation.content = captured = Content(config)
    captured.input_messages = partial(content.input_messages, route, body)
    captured.system_instructions = partial(content.system_instructions, route, body)
    captured.tool_definitions = partial(content.tool_definitions, route, body)


def capture_stream(operation: Operation, route: Route) -> Callable[[Any], None] | None:
    """What to call with every chunk of a streamed answer; None where no content is captured."""
    if operation.content is None:
        return None
    from llmwatch.sources.openai import content

    collector = content.collector(route)
    operation.content.output_messages = collector.messages
    return collector.add


def capture_answer(operation: Operation, route: Route, answer: Any) -> None:
    """Note a whole answer, where content is captured; it is converted when the operation ends."""
    if operation.content is None:
        return
    from llmwatch.sources.openai import content

    operation.content.output_messages = partial(content.output_messages, route, answer)
