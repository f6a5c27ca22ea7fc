"""Import what an extra brings, and explain a missing one."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from llmwatch.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import *module*, or say which extra brings it.

    Args:
        module: Dotted name, for example ``"rich.table"``.
        extra: The extra of llmwatch whose packages contain it.

    Raises:
        MissingExtraError: If the module's top-level package is not installed. Any other
            failure of the import is somebody else's to explain and passes through.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # broken inside: not ours to explain
        raise MissingExtraError(package, extra) from None
