"""Runs first in every Python process under ``llmwatch run``, whichever Python that is.

So it may be met by an older one, or one without llmwatch: then it does nothing. A `sitecustomize`
that would have run without it runs all the same, and first.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - loads no module
_NOT_THE_PROGRAM = "from multiprocessing.resource_tracker import "


def _run_the_next() -> None:
    """Import the module of this name that comes after ours on the path."""
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != _HERE]  # noqa: PTH100
    ours = sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except ImportError as error:
        if error.name != __name__:
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault(__name__, ours)


def _start() -> None:
    if any(each.startswith(_NOT_THE_PROGRAM) for each in getattr(sys, "orig_argv", ())):
        return
    try:
        from llmwatch.cli.startup import start
    except (ImportError, SyntaxError):
        return
    start()


try:
    _run_the_next()
finally:
    _start()
