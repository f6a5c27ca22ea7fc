"""What of a request may leave in a report.

A report goes to others: of attributes it has those that llmwatch has names for and that say nothing
of what was said. Whatever else a program or another instrumentation put there stays at home.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llmwatch import semconv, semconv_layers, semconv_models, semconv_tasks
from llmwatch import semconv_hardware as hardware

PRIVATE: Final = frozenset(
    {
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.SYSTEM_INSTRUCTIONS,
        semconv.TOOL_DEFINITIONS,
        semconv.EXCEPTION_MESSAGE,  # a server quotes the request in it
        semconv.EXCEPTION_STACKTRACE,
        semconv.REQUEST_STOP_SEQUENCES,
        semconv.USER_ID,
        semconv.SESSION_ID,
    }
)
_NAMED: Final = frozenset().union(
    *(
        each.ATTRIBUTES
        for each in (semconv, semconv_layers, semconv_models, semconv_tasks, hardware)
    )
)
_RESOURCE: Final = ("service.", "telemetry.", "deployment.", "os.", "k8s.", "container.", "host.")


def without_content(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as `shape.request` gives it, with nothing in it that was said."""
    return {
        **request,
        "spans": [_span(each) for each in request["spans"]],
        "logs": [
            {**each, "body": None, "attributes": allowed(each["attributes"])}
            for each in request["logs"]
        ],
    }


def _span(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **each,
        "attributes": allowed(each["attributes"]),
        "message": "",
        "events": [
            {**event, "attributes": allowed(event["attributes"])} for event in each["events"]
        ],
        "resource": {
            name: value for name, value in each["resource"].items() if name.startswith(_RESOURCE)
        },
    }


def allowed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that may leave."""
    return {
        name: value for name, value in attributes.items() if name in _NAMED and name not in PRIVATE
    }
