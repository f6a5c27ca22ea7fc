"""Settings as options of commands; those that are left out are set by variables, as ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from llmwatch import config
from llmwatch.backends import PRESETS
from llmwatch.errors import ConfigError

CHOICES: Mapping[str, tuple[str, ...]] = {
    "backend": tuple(sorted(PRESETS)),
    "protocol": ("http/protobuf", "grpc"),
    "capture_content": tuple(each.value for each in config.CaptureContent),
    "logs": ("context", "export"),
    "semconv": ("1.41", "genai-0.1", "dup"),
}
"""What the shell offers for the value of an option."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

OPTIONS = {
    "backend": f"Send to one that llmwatch knows: {', '.join(sorted(PRESETS))}.",
    "endpoint": "Send by OTLP to this base URL, like http://localhost:4318.",
    "protocol": "http/protobuf or grpc.",
    "prometheus_port": "Serve metrics to Prometheus on this port, or on the first free one of a "
    "range: 9464-9471, for a server with workers.",
    "service_name": "What the program is called in telemetry.",
    "sources": "Watch only these, separated by commas.",
    "capture_content": "Record prompts and answers: span_only, event_only or span_and_event.",
    "logs": "Log records: context (put trace and span id on them) or export.",
    "sample_ratio": "Share of traces to keep, 0 to 1.",
    "keep": "Traces to send, by what became of them: errors,flagged,slow>5s,cost>0.1,5%.",
    "store_path": "Folder of the local store, where telemetry goes that is sent nowhere.",
    "semconv": "Names of signals: 1.41, genai-0.1 or dup.",
}
"""Settings that have an option of their own, and its help."""


def settings(command: _Command) -> _Command:
    """Give *command* the options; it gets ``given``: what was given, by the name of its setting."""
    for name, text in reversed(OPTIONS.items()):
        flag = f"--{name.replace('_', '-')}"
        offer = _offer(name)
        option = click.option(flag, name, metavar="VALUE", help=text, shell_complete=offer)
        command = option(command)
    command = click.option("--console", is_flag=True, help="Print a line for each call.")(command)
    more = "Any other setting of instrument(), for example --set timeline=true."
    return click.option(
        "--set",
        "more",
        metavar="NAME=VALUE",
        multiple=True,
        help=more,
        shell_complete=_offer("set"),
    )(command)


def _offer(
    name: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What the shell is told of the value of an option that begins like this."""

    def offer(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        if name == "store_path":
            return [CompletionItem(begun, type="dir")]
        known = CHOICES.get(name, ())
        if name == "set":
            known = tuple(f"{each}=" for each in sorted(config.in_environment() - {"headers"}))
        return [CompletionItem(each) for each in known if each.startswith(begun)]

    return offer


def given(options: Mapping[str, Any]) -> dict[str, str]:
    """The settings among *options*, checked, as texts for the environment.

    Raises:
        click.UsageError: If a value cannot be used.
    """
    found = {name: options[name] for name in OPTIONS if options[name] is not None}
    if options["console"]:
        found["console"] = "true"
    for each in options["more"]:
        name, equals, value = each.partition("=")
        name = name.strip().replace("-", "_")
        if name == "headers":
            raise click.UsageError("headers hold keys: give them as LLMWATCH_HEADERS, unseen.")
        if not equals or name not in config.in_environment():
            known = ", ".join(sorted(config.in_environment()))
            raise click.UsageError(
                f"--set {each!r} cannot be used: give NAME=VALUE, one of {known}."
            )
        found[name] = value
    for name, value in found.items():
        _check(name, value)
    return found


def _check(name: str, value: str) -> None:
    where = f"--{name.replace('_', '-')} " if name in OPTIONS else f"--set {name}="
    try:
        config.parse(name, value, where)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def put(found: Mapping[str, str], environment: dict[str, str] | None = None) -> None:
    """Write settings where `instrument` finds them, in this process or in *environment*."""
    target = os.environ if environment is None else environment
    target.update({f"LLMWATCH_{name.upper()}": value for name, value in found.items()})
