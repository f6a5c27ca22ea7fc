"""Layers as a source: what the watchers of this process know, and models that are loaded.

With the setting `layers`, every model that transformers loads from here on is watched. Loads
neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch._guard import Guard
from llmwatch.errors import MissingExtraError
from llmwatch.patching import Patch, Patches
from llmwatch.signals.layer_findings import counts, healths, tell_changes
from llmwatch.signals.layers import passes, shares
from llmwatch.signals.observed import Observation
from llmwatch.sources.torch_layers import registry
from llmwatch.sources.torch_layers.ranks import rank_attributes

if TYPE_CHECKING:
    from weakref import ref

    from llmwatch.signals.operation import Signals
    from llmwatch.sources.torch_layers.watcher import LayerWatcher

_LOADED = Guard("layers.loaded")


class Source:
    """The layers of one session.

    Args:
        signals: Where what is seen goes.
    """

    def __init__(self, signals: Signals) -> None:
        self._layers = signals.config.layers
        self._loading = local()
        self._watchers: list[ref[LayerWatcher]] = []
        for key, observe in _OBSERVED.items():
            signals.observe(names.LAYER_METRICS[key], observe)
        for key, metric in names.FINDING_METRICS.items():
            signals.observe(metric, partial(_judged, key, signals))
        signals.feed(_sum_up)
        self._patches = Patches("layers", [Patch(*each, self._load) for each in LOADERS])
        if self._layers is not None:
            self._patches.install()

    def undo(self) -> None:
        """End the watching of models that were loaded meanwhile."""
        self._patches.undo()
        while self._watchers:
            watcher = self._watchers.pop()()
            if watcher is not None:
                watcher.close()

    def _load(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        # A model that loads another one as a part of itself is one model.
        inside = getattr(self._loading, "inside", False)
        self._loading.inside = True
        try:
            loaded = wrapped(*args, **kwargs)
        finally:
            self._loading.inside = inside
        if not inside:
            with _LOADED:
                self._watch(loaded)
        return loaded

    def _watch(self, loaded: Any) -> None:
        from weakref import ref

        from llmwatch.sources.torch_layers.watcher import watch_layers

        # With `output_loading_info` it comes in a tuple.
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        self._watchers.append(ref(watch_layers(model, self._layers)))


LOADERS = (("transformers.modeling_utils", "PreTrainedModel.from_pretrained"),)
"""What loads models."""


def _sum_up() -> None:
    for watcher in registry.living():
        watcher.resolve()


def _shares() -> list[Observation]:
    more = rank_attributes()
    return [
        each for watcher in _attached() for each in shares(watcher.totals(), watcher.labels, more)
    ]


def _passes() -> list[Observation]:
    more = rank_attributes()
    return [each for one in _attached() for each in passes(one.name, one.passes, more)]


def _given_up() -> list[Observation]:
    more = dict(rank_attributes())
    return [
        Observation(one.given_up, {semconv.REQUEST_MODEL: one.name, **more})
        for one in _attached()
        if one.given_up
    ]


def _judged(key: str, signals: Signals) -> list[Observation]:
    """A gauge that findings rest on; whichever is read first has them judged and told of."""
    more, found = rank_attributes(), []
    for each in registry.living():
        if each.analysis is None:
            continue
        each.resolve()
        judge = each.analysis.judge
        tell_changes(signals, each.name, *judge.judge(), more)
        if key == "findings":
            found += counts(each.name, judge.raised, more)
        else:
            found += healths(key, judge.health(), each.labels, more)
    return found


def _attached() -> list[LayerWatcher]:
    watchers = registry.living()
    for watcher in watchers:
        watcher.attach()
    return watchers


_OBSERVED: dict[str, Callable[[], list[Observation]]] = {
    "share": _shares,
    "passes": _passes,
    "given_up": _given_up,
}


def install(signals: Signals) -> Source:
    """Tell of watched layers, and by the setting `layers` watch models when they are loaded.

    Raises:
        MissingExtraError: If that was asked for and PyTorch is not installed.
    """
    if signals.config.layers is not None:
        from importlib.util import find_spec

        if find_spec("torch") is None:  # to import it would take seconds, here and now
            raise MissingExtraError("torch", "torch")
    return Source(signals)
