"""Every public method of every resource class of the installed openai package.

``python -m tests.sources.openai.enumerate_methods`` prints those that `methods.txt` does not
classify yet.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

TABLE = Path(__file__).with_name("methods.txt")
KINDS = ("inference", "helper", "websocket", "other", "not-yet")


def methods() -> set[str]:
    """Names such as ``chat.completions.completions.Completions.create``; asynchronous twins too."""
    import openai.resources

    found = set()
    prefix = "openai.resources."
    for info in pkgutil.walk_packages(openai.resources.__path__, prefix):
        module = importlib.import_module(info.name)
        for name, kind in vars(module).items():
            if not inspect.isclass(kind) or kind.__module__ != info.name:
                continue
            if name.endswith(("WithRawResponse", "WithStreamingResponse")):
                continue  # wrappers of the methods listed here
            found |= {
                f"{info.name.removeprefix(prefix)}.{name}.{method}"
                for method, value in vars(kind).items()
                if inspect.isfunction(value) and not method.startswith("_")
            }
    return found


def classified() -> dict[str, str]:
    """What `methods.txt` says of each method; asynchronous twins count with their synchronous ones."""
    lines = TABLE.read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def plain(name: str) -> str:
    """The synchronous twin's name of an asynchronous method."""
    module, kind, method = name.rsplit(".", 2)
    return f"{module}.{kind.removeprefix('Async')}.{method}"


if __name__ == "__main__":
    known = classified() if TABLE.exists() else {}
    for each in sorted({plain(name) for name in methods()} - known.keys()):
        print(each, "?")
