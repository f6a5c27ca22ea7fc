"""`watch_layers`: time the layers of a model while it serves or trains.

A forward that is not sampled passes one function of ours. A sampled one has wrappers in its layers
for its own length. There is one sampled forward at a time in the process; whoever comes meanwhile
passes through unmeasured, and nobody ever waits.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

import torch
from torch import nn

from llmwatch._guard import Guard
from llmwatch.errors import ConfigError
from llmwatch.measure.layers import Layer, LayerSample, LayerTotal, Totals
from llmwatch.signals.layers import Measured, tell
from llmwatch.sources.torch_layers import backlog, copies, registry
from llmwatch.sources.torch_layers.backward import BackwardLook, BackwardPass, Passing
from llmwatch.sources.torch_layers.describe import is_traced, name_of, phase_of
from llmwatch.sources.torch_layers.entry import Entry
from llmwatch.sources.torch_layers.forward import Forward
from llmwatch.sources.torch_layers.given import inputs_of
from llmwatch.sources.torch_layers.layout import Layout
from llmwatch.sources.torch_layers.observe import Beginning, Look, Observer
from llmwatch.sources.torch_layers.options import Options
from llmwatch.sources.torch_layers.schedule import Schedule

if TYPE_CHECKING:
    from llmwatch.measure.baseline import Baseline
    from llmwatch.signals.layers import Labels
    from llmwatch.sources.torch_layers.analysis import Analysis
    from llmwatch.sources.torch_layers.entry import Kept
    from llmwatch.sources.torch_layers.report import Report
    from llmwatch.sources.torch_layers.select import Selection

__all__ = ["LayerWatcher", "watch_layers"]

INTERVAL = 1.0
"""Seconds between two sampled forwards of one phase, where nothing else is said."""

MOST_SAMPLES = 64
"""Sampled passes that are kept."""

MOST_PENDING = 8
"""Sampled passes that may wait for a device to finish them; then the oldest is given up."""

MOST_QUEUED, MOST_CALLS_QUEUED = 256, 20_000
"""Sampled passes, and calls in them, that may wait to be summed up; then no more are sampled."""

MOST_COMPILED = 3
"""Sampled forwards in a row that may be met by a compilation."""

PATIENCE = 1.0
"""Seconds that a reader waits for another thread that is summing up."""

_TELL = Guard("layers.tell")
_RESOLVE = Guard("layers.resolve")
_LOOK = Guard("layers.look")


def watch_layers(
    model: nn.Module,
    layers: Selection = "blocks",
    *,
    every: int | None = None,
    interval: float | None = None,
    name: str | None = None,
    memory: bool = False,
    flops: bool = True,
    numbers: bool = False,
    gradients: bool = False,
    drift: Any = None,
) -> LayerWatcher:
    """Time the layers of *model* on some of its forwards, until the watcher is closed.

    The model stays what it was: its class, its outputs and gradients, its `state_dict`, its
    pickles and copies. Watching it again ends the earlier watching. With `llmwatch.instrument`,
    before or after, what is seen goes into metrics too.

    Args:
        model: Any module; the whole model, as it is called.
        layers: Which of its modules: ``"blocks"`` (the repeated ones, and what lies beside them),
            ``"all"``, a depth, a pattern of names (``"*.mlp"``) or the name of a class, a class, a
            function of name and module, or several of these.
        every: Sample one forward in this many. Default: as *interval* says. Then what is put into
            the layers is kept for the next one, as long as no *interval* is given: a layer that is
            replaced goes from memory at the next sampled forward.
        interval: Seconds that lie at least between two sampled forwards of one phase. Default: 1
            where *every* is not given, else 0.
        name: What the model is called. Default: where it was loaded from, else its class.
        memory: Note how much memory each layer allocates, on devices that say so.
        flops: Count the work of a handful of the sampled forwards, which take several times as
            long for it; that of others follows.
        numbers: Look at the health of the numbers that blocks put out.
        gradients: Look at the norms of blocks' gradients, in the backward pass of sampled forwards.
        drift: Watch the activations of blocks for drift: what a `DriftMonitor` takes as its
            reference, or True, for a monitor at each of four blocks; or monitors by path of layer.

    Returns:
        A watcher, which is a context manager too: it is closed at the end of the block.

    Raises:
        ConfigError: If a keyword cannot be used, or *layers* means none of the model's.

    Cost: 1 µs a forward; on a sampled one some 2 µs for each call of a watched layer.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"watch_layers({type(model).__name__}) cannot be used: give a torch.nn.Module."
        )
    for key, value, least in (("every", every, 1), ("interval", interval, 0)):
        if value is not None and not value >= least:
            raise ConfigError(
                f"watch_layers({key}={value!r}) cannot be used: give a number from {least}."
            )
    if interval is None:
        interval = INTERVAL if every is None else 0.0
    schedule = Schedule(int(every or 1), interval)
    watcher = LayerWatcher(model, layers, schedule, name or name_of(model), memory=memory)
    try:
        watcher.analyse(Options(flops, numbers, gradients, drift))
    except BaseException:
        watcher.close()
        raise
    return watcher


class LayerWatcher:
    """What is known of the layers of one model. Made by `watch_layers`."""

    def __init__(
        self, model: nn.Module, selection: Selection, schedule: Schedule, name: str, *, memory: bool
    ) -> None:
        self.name = name
        """What the model is called."""
        self.schedule = schedule
        self.observers: tuple[Observer, ...] = ()
        """Who is asked at the beginning of each sampled forward whether to look at it."""
        self.analysis: Analysis | None = None
        """What is known beside times, if `analyse` asked for it."""
        self._given_up = 0
        self._model = ref(model)
        self._selection: Selection | None = selection
        self._compiled = 0
        """Sampled forwards in a row in which something was compiled."""
        self._memory = memory
        self._totals = Totals()
        self._samples: deque[LayerSample] = deque(maxlen=MOST_SAMPLES)
        self._pending: deque[Forward | BackwardPass] = deque()
        self._lock = Lock()
        self._resolving = RLock()
        """Whoever holds it sums up; what an observer does then may ask for what is known."""
        self._closed = False
        self._layout = Layout(model, selection, name)
        for other in registry.living():
            if other._model() is model:
                other.close()
        self._entry = ref(Entry.put(self, model))
        registry.add(self)
        copies.install()

    @property
    def model(self) -> nn.Module | None:
        """The model; None once it is gone."""
        return self._model()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The watched layers; the first is the model itself."""
        return self._layout.plan.layers

    @property
    def samples(self) -> tuple[LayerSample, ...]:
        """The latest sampled passes whose times are known, the oldest first."""
        self.resolve()
        return tuple(self._samples)

    def totals(self) -> tuple[LayerTotal, ...]:
        """What all sampled passes say of each layer, by phase."""
        self.resolve()
        with self._lock:
            return self._totals.rows()

    @property
    def passes(self) -> dict[str, int]:
        """How many passes were sampled, by phase."""
        self.resolve()
        with self._lock:
            return dict(self._totals.passes)

    @property
    def given_up(self) -> int:
        """Sampled passes whose times never came to be known, or that nobody had time to sum up."""
        self.resolve()
        return self._given_up

    @property
    def labels(self) -> Labels:
        """What its layers are called in metrics."""
        return self._layout.labels

    def attach(self) -> None:
        """See that the model's calls still come to us.

        `model.compile()` takes the place that we stand in; from then on the model is watched as a
        whole. Called whenever metrics are collected.
        """
        model = self._model()
        entry = self._entry()
        if model is not None and not self._closed and not (entry and entry.in_place):
            self._entry = ref(Entry.put(self, model))

    def sample_now(self) -> None:
        """Time the next forward, whatever the schedule says; its work is not counted."""
        self.schedule.asked = True

    def observe(self, observer: Observer) -> None:
        """Ask *observer* too at the beginning of each sampled forward."""
        self.observers += (observer,)

    def analyse(self, options: Options) -> None:
        """Look at more than times, from now on."""
        from llmwatch.sources.torch_layers.analysis import Analysis

        model = self._model()
        assert model is not None  # whoever calls this has it
        self.analysis = Analysis(model, self.layers, self.name, options)
        for observer in self.analysis.observers:
            self.observe(observer)

    def report(self) -> Report:
        """Where the time, memory and numbers of the layers go, and what is worth a look.

        Cost: about 0.3 s the first time, to measure what the device can do; then some ms. It waits
        for the device: not for the thread that serves.
        """
        from llmwatch.sources.torch_layers.report import report

        self.resolve()
        return report(self)

    def baseline(self) -> Baseline:
        """What the activations of the blocks were so far, to be saved and compared; see `numbers`.

        Raises:
            ConfigError: If the numbers are not looked at.
        """
        self.resolve()
        numbers = None if self.analysis is None else self.analysis.numbers
        if numbers is None:
            raise ConfigError(
                "there is no baseline: give watch_layers(…, numbers=True), which looks at them."
            )
        return numbers.baseline()

    def close(self) -> None:
        """End the watching and leave the model as it was; what was seen stays readable."""
        self._closed = True
        entry = self._entry()
        if entry is not None:
            entry.take()
        self._layout.take()
        self.resolve()
        registry.remove(self)
        copies.undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what the entry calls --------------------------------------------------------------------

    def begin(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], kept: Kept
    ) -> Forward | None:
        """Begin to sample a forward, if it is to be sampled: its wrappers are in place then."""
        phase = phase_of(kwargs)
        if self._closed or not self.schedule.due(phase) or is_traced():
            return None
        if self._is_full:
            self._given_up += 1
            return None
        turn, mine = registry.turn, False
        try:
            mine = turn.acquire(blocking=False)
            forward = self._begun(model, phase, args, kwargs, kept) if mine else None
            if forward is not None:
                forward.turn = turn
                return forward
        except BaseException:
            self._give_back(turn, mine=mine)
            raise
        self._give_back(turn, mine=mine)
        return None

    def _give_back(self, turn: Lock, *, mine: bool) -> None:
        if mine:
            self._layout.take()
            turn.release()

    def _begun(
        self,
        model: nn.Module,
        phase: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kept: Kept,
    ) -> Forward | None:
        layout = self._layout
        found = layout.find(model, kept) if self._selection is layout.selection else None
        if found is None:
            layout = self._layout = Layout(model, self._selection, self.name)
            found = layout.find(model, kept)
        kept.found = found if self.schedule.dense else None
        if found is None or not layout.ready:
            return None
        asked = self.schedule.asked
        self.schedule.took(phase)
        beginning = Beginning(
            layout.plan.layers,
            phase,
            layout.where,
            inputs_of(args, kwargs),
            torch.is_grad_enabled(),
            asked,
            layout.plan.tree.compiled,
        )
        looks = self._looks(beginning)
        passing = None
        if beginning.grad:
            passing = Passing(layout.plan.layers, layout.clock)
            looks = (*looks, BackwardLook(passing))
        tape = layout.tape(found, looks, memory=self._memory)
        forward = Forward(tape, layout, beginning, self.name)
        if passing is not None:
            passing.then = partial(self._put, BackwardPass(passing, forward))
        forward.put(found)
        return forward

    def _looks(self, beginning: Beginning) -> tuple[Look, ...]:
        found: list[Look] = []
        for observer in self.observers:
            with _LOOK:
                if (look := observer.look(beginning)) is not None:
                    found.append(look)
        return tuple(found)

    def end(self, forward: Forward) -> None:
        """A sampled forward is over."""
        self._compiled = self._compiled * forward.tape.void
        if forward.is_timed:
            self._put(forward)
        else:
            forward.tell(None)

    def compiling(self) -> None:
        """Something is about to be compiled on some thread: perhaps what calls our layers.

        Where that happens again and again, because of what we put there, the model is watched as a
        whole from then on.
        """
        if not self._layout.compiling():
            return
        self._compiled += 1
        if self._compiled >= MOST_COMPILED:
            self._selection = None

    @property
    def _is_full(self) -> bool:
        """Whether as much waits to be summed up as may."""
        many = len(self._pending)
        if many <= MOST_PENDING:
            return False
        return many >= MOST_QUEUED or many * len(self.layers) >= MOST_CALLS_QUEUED

    def _put(self, sampled: Forward | BackwardPass) -> None:
        self._pending.append(sampled)
        if self._closed or not backlog.wake(self):
            self.resolve()

    def resolve(self) -> None:
        """Take up the passes whose times are known by now. Never waits for a device.

        Cost: 5 µs for each call of a layer, on the thread that does it.
        """
        if not self._resolving.acquire(timeout=PATIENCE):
            return
        try:
            while self._pending:
                forward, done = self._pending[0], None
                with _RESOLVE:
                    done = forward.done
                if done is False and len(self._pending) <= MOST_PENDING:
                    return
                self._pending.popleft()
                with _RESOLVE:
                    self._take_up(forward, known=bool(done))
        finally:
            self._resolving.release()

    def _take_up(self, forward: Forward | BackwardPass, *, known: bool) -> None:
        if not known:
            self._given_up += 1
            return
        sample = None
        try:
            sample = forward.sample()
        finally:
            forward.tell(sample)
        if sample is None:
            return
        with self._lock:
            self._samples.append(sample)
            self._totals.add(sample)
        for observer in self.observers:
            with _LOOK:
                observer.sampled(forward.beginning, sample)
        about = forward.about
        if about.signals is not None:
            with _TELL:
                tell(about.signals, Measured(sample, about.labels, about.more))

    def forked(self) -> None:
        """Leave to the parent what it was doing when this process was forked."""
        self._layout.take()
        self._pending.clear()
        self._lock, self._resolving = Lock(), RLock()
