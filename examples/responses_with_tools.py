"""An agent with a tool, on the Responses API.

    python examples/responses_with_tools.py

Calls to the model and to the tool are spans inside the span of the agent.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

from _server import Script, a_model
from openai import OpenAI

import llmwatch
from llmwatch.export.store_reader import StoredSpan, read_spans

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@llmwatch.watch(operation="execute_tool", name="get_weather")
def get_weather(city: str) -> str:
    """The tool: it is an operation like any other."""
    return f"Rain in {city}, 9 °C."


@llmwatch.watch(operation="invoke_agent", name="harbour guide")
def guide(client: OpenAI, question: str) -> str:
    """Let the model use the tool until it has an answer."""
    said: list[Any] = [{"role": "user", "content": question}]
    while True:
        response = client.responses.create(model="gpt-5-mini", input=said, tools=[WEATHER])
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        said += response.output
        for call in calls:
            result = get_weather(**json.loads(call.arguments))
            said.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


def tree(spans: list[StoredSpan], parent: str | None = None, depth: int = 0) -> None:
    """Print spans below their parents."""
    for span in sorted(spans, key=lambda span: span.start):
        if span.parent_id == parent:
            called = span.attributes.get("llmwatch.response.tool_calls", "")
            print(f"{'  ' * depth}{span.name}  {span.duration * 1000:.0f} ms  {called}")
            tree(spans, span.span_id, depth + 1)


def main() -> None:
    """Ask one question."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="tools-example", store_path=store)
    with a_model(Script(delay=0.1, tool_calls=1), Script(delay=0.2)), OpenAI() as client:
        print(guide(client, "Do I need an umbrella in Oslo?"))
    llmwatch.shutdown()
    tree(list(read_spans(store)))


if __name__ == "__main__":
    main()
