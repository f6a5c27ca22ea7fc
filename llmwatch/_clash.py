"""Notice another distribution that installs a package called ``llmwatch``.

This package is distributed as ``llmwatch-otel``. The distribution ``llmwatch`` is another project
with a package of the same name: with both installed, each has overwritten files of the other.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_log = logging.getLogger("llmwatch")


@cache
def warn_of_clash() -> None:
    """Log one warning a process if the distribution ``llmwatch`` is installed beside this one.

    Cost: one look-up by name among the installed distributions, about 1 ms, once.
    """
    try:
        other = version("llmwatch")
    except PackageNotFoundError:
        return
    _log.warning(
        "The distribution 'llmwatch' %s is installed. It is another project that overwrites files "
        "of this package, which is distributed as 'llmwatch-otel'. Remedy: "
        "pip uninstall -y llmwatch llmwatch-otel, then pip install llmwatch-otel",
        other,
    )
