"""A Sphinx directive that describes settings of `instrument`, from ``llmwatch.config`` itself.

In a page: a fenced block named ``{settings}`` with names of settings, in the order in which they
shall stand there. A setting that no page describes is a warning, so that none is forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from llmwatch import config

_log = logging.getLogger(__name__)

FIELDS: dict[str, Field[Any]] = {each.name: each for each in fields(config.Config)}
ACCEPTED: dict[str, Any] = config.Settings.__annotations__
MEANINGS = ModuleAnalyzer.for_module(config.__name__).find_attr_docs()


def meaning(name: str) -> str:
    """The docstring of a setting, as Markdown."""
    lines = MEANINGS["Config", name]
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(line.strip() for line in lines).strip())


def accepted(name: str) -> str:
    """What the keyword takes."""
    given = ACCEPTED[name]
    text = getattr(given, "__forward_arg__", None) or str(given)
    text = text.replace("Protocol", " | ".join(map(repr, config.Protocol.__args__)))  # type: ignore[attr-defined]
    text = text.replace("Semconv", " | ".join(map(repr, config.Semconv.__args__)))  # type: ignore[attr-defined]
    return " | ".join(part for part in text.split(" | ") if part != "None")


def default(name: str) -> str:
    """The default, as one would write it."""
    field = FIELDS[name]
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return value.name if isinstance(value, Enum) else repr(value)


def variables(name: str) -> Iterator[str]:
    """The environment variables that are read where the keyword is not given, first to last."""
    if name not in config.OBJECTS:
        yield f"LLMWATCH_{name.upper()}"
        if name in config._FALLBACK:
            yield config._FALLBACK[name]


class Settings(SphinxDirective):
    """The settings that the arguments name, as a list of definitions."""

    has_content: ClassVar[bool] = True
    optional_arguments: ClassVar[int] = 0

    def run(self) -> list[nodes.Node]:
        """One definition a setting; its term is a target for links: ``#setting-stream-usage``."""
        self.env.note_dependency(config.__file__)
        names = " ".join(self.content).split()
        described(self.env).setdefault(self.env.docname, set()).update(names)
        return [nodes.definition_list("", *map(self.item, names))]

    def item(self, name: str) -> nodes.Node:
        """Name, types and default of one setting; below them its meaning."""
        term = nodes.term("", "", nodes.strong("", name), nodes.Text("  "))
        term["ids"].append(f"setting-{name.replace('_', '-')}")
        term += nodes.literal("", accepted(name), classes=["type"])
        read = ", ".join(f"`{each}`" for each in variables(name)) or "a keyword only"
        facts = f"Default `{default(name)}` · {read}"
        body = self.parse_text_to_nodes(f"{meaning(name)}\n\n{facts}")
        return nodes.definition_list_item("", term, nodes.definition("", *body))


def described(env: BuildEnvironment) -> dict[str, set[str]]:
    """The settings that pages describe, by page."""
    if not hasattr(env, "llmwatch_settings"):
        env.llmwatch_settings = {}  # type: ignore[attr-defined]
    return env.llmwatch_settings  # type: ignore[attr-defined,no-any-return]


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """A page is read anew."""
    described(env).pop(docname, None)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of settings that no page describes."""
    found = set().union(*described(env).values())
    if missing := sorted(set(FIELDS) - found):
        _log.warning("no page describes the settings %s", ", ".join(missing))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("settings", Settings)
    app.connect("env-purge-doc", forget)
    app.connect("env-check-consistency", check)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False}
