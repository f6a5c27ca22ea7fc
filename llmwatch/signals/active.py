"""Where watched calls go right now.

`session` sets `signals` when everything stands, and None before it takes anything down. Sources
that outlive a session (decorated functions) read it anew at each call, so that it does not matter
whether a function was decorated before or after `instrument`. Read it through the module
(``active.signals``): an imported name would keep the value it had then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmwatch.signals.operation import Signals

signals: Signals | None = None
"""None while nothing is instrumented."""
