"""Everything llmwatch raises on purpose.

Raised only at llmwatch's own calls (`instrument`, `attributes`, …), never inside a call that
belongs to the user.
"""

from __future__ import annotations


class LlmwatchError(Exception):
    """Base of all errors that llmwatch raises on purpose."""


class ConfigError(LlmwatchError, ValueError):
    """A setting has a value that cannot be used.

    The message names the setting, where its value came from, the value, and the remedy.
    """


class MissingExtraError(LlmwatchError, ImportError):
    """Something was asked for by name that needs a package which is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"llmwatch needs {package!r} for this, and it is not installed. "
            f"Install it with: pip install 'llmwatch-otel[{extra}]'"
        )
        self.package = package
        self.extra = extra
