"""`DriftMonitor`: the tracker that sits in the serving process.

Adding is cheap and never raises; what cannot be used is counted. Items wait in a buffer, which is
swapped under a lock and measured outside it; sums and counts are then taken in under another.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from numbers import Integral, Real
from threading import Lock, Thread
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike, NDArray

from llmwatch._guard import Foreign, Guard
from llmwatch.drift import files, registry
from llmwatch.drift.detector import Change
from llmwatch.drift.intake import (
    FLOAT,
    Batch,
    Ids,
    Intake,
    Item,
    Sessions,
    batches,
    named,
    own_rows,
)
from llmwatch.drift.keys import Keys
from llmwatch.drift.origin import WINDOW, Origin, parse
from llmwatch.drift.reference import Reference, fit_reference, usable, usable_rows
from llmwatch.drift.sample import Sample
from llmwatch.drift.state import State, measure
from llmwatch.drift.status import KeyStatus, Phase, Status
from llmwatch.drift.subspace import BLOCK, Floats, squared
from llmwatch.drift.totals import Tally, Totals
from llmwatch.drift.verdict import Verdict, judge
from llmwatch.drift.window import Window
from llmwatch.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger("llmwatch")
_ADD = Guard("drift.add")
_FIT = Guard("drift.fit")
_TELL = Guard("drift.tell")
_THEIRS = Foreign()


class DriftMonitor:
    """Watches whether embeddings still come from where those of a reference came from.

    Args:
        name: What it is called in metrics and events.
        reference: ``"first:2000"``: learn it from the first so many; ``"file:…"``: one that was
            saved; ``"sliding:24h"``: learn it, and again every so often from a sample of that time;
            or an array of embeddings, shape ``(n, d)``, or of numbers, shape ``(n,)``. It should be
            at least 4 windows large.
        window: Items that are judged together; a verdict comes every half window.
        false_alarm: How often one verdict is wrong while nothing has drifted.
        least_effect: Differences smaller than this share never raise an alarm, however certain.
        model: What makes the embeddings; compared with what a reference file says.
        ids: Of each embedding, where the reference is an array: some of them name the regions of
            the reference that a drift may lead to.
        seed: Makes fitting reproducible.

    Raises:
        ConfigError: If a setting or the reference cannot be used.
        OSError: If the reference file cannot be read.

    Cost: an item 5 µs at 1536 dimensions, verdicts included; a verdict 0.1 ms; memory 0.5 MB for
    the reference, 0.25 MB a key at most, and 12 MB while 2000 embeddings are gathered for one.

    All keys are compared with the one reference: where routes or languages differ from each other
    by nature, give each a monitor of its own.
    """

    def __init__(
        self,
        name: str,
        reference: str | ArrayLike | Reference = "first:2000",
        *,
        window: int = WINDOW,
        false_alarm: float = 1e-3,
        least_effect: float = 0.01,
        model: str = "",
        ids: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        _check(name, window, false_alarm, least_effect, model, seed)
        self.name = name
        self.model = model
        self.window = window
        self.false_alarm = false_alarm
        self.least_effect = least_effect
        self._seed = seed
        self._reference: Reference | None = None
        self._origin = Origin()
        self._problem = ""
        self._fitting: Thread | None = None
        self._refit: Callable[[], tuple[Floats, Sequence[str]]] | None = None
        self._shape: tuple[int, ...] = ()
        """Of the vectors that are watched; empty until the first one came."""
        self._renew_at: float | None = None
        self._begin()
        self._sample: Sample | None = None
        if len(ids) and isinstance(reference, (str, Reference)):
            raise ConfigError("ids= belong to a reference that is an array: give one, or no ids.")
        if isinstance(reference, Reference):
            self._watch(reference)
        elif isinstance(reference, str):
            self._origin = origin = parse(reference, window)
            if origin.file is not None:
                self._watch(files.load(origin.file))
            else:
                self._sample = Sample(origin.learn, seed)
        else:
            rows, names = _reference_rows(reference, window, ids)
            self._shape = rows.shape[1:]
            self._fit(lambda: (rows, names))
        registry.add(self)

    def _begin(self) -> None:
        """Start, or start anew in a forked child: what was seen is the parent's to tell."""
        self._intake = Intake()
        self._fold = Lock()
        self._tally = Tally(len(self._reference.counts) if self._reference else 0)
        self._keys = Keys(self._window)
        self.invalid: Counter[str] = Counter()
        self._unwatched = 0

    def _window(self, reference: Reference) -> Window:
        return Window(reference, self.false_alarm, self.least_effect, self._tally)

    # --- adding --------------------------------------------------------------------------------

    def add(
        self,
        vectors: ArrayLike,
        *,
        key: str | None = None,
        session: Sessions | int = None,
        trace: str | None = None,
        ids: Ids = None,
    ) -> None:
        """Take in one embedding, or a batch. Never raises; a copy is taken.

        Args:
            vectors: Shape ``(d,)`` or ``(n, d)``. Where numbers are watched: one, or ``(n,)``.
            key: Route, tenant or language, to be watched by itself.
            session: Of the batch, or of each row. Rows of one session count once in a window.
            trace: Trace id that finds the item again; None: the current span's, if instrumented.
            ids: Of the batch, or of each row: what you would look the text up by. Those of the
                most foreign items are told with an alarm.

        Cost: one vector of float32 takes 1 µs until 64 are waiting; then, and for a batch, 5 µs a
        vector of 1536 numbers.
        """
        found: str | int = trace or (registry.trace_of[-1]() if registry.trace_of else 0)
        if (
            type(vectors) is ndarray
            and vectors.dtype is FLOAT
            and vectors.shape == self._shape
            and (key is None or type(key) is str)
            and (session is None or type(session) is str)
            and (ids is None or type(ids) is str)
        ):
            intake = self._intake
            intake.items.append((vectors.tobytes(), key or "", session, found, ids))
            if len(intake.items) + intake.extra < BLOCK:  # `full`, without a call
                return
            with _ADD:
                self._process(intake.take())
            return
        with _ADD:
            self._add_rows(
                vectors, "" if key is None else str(key), named(session), found, named(ids)
            )

    def _add_rows(
        self, vectors: ArrayLike, key: str, session: Sessions, trace: str | int, ids: Ids
    ) -> None:
        rows = None
        with _THEIRS:
            rows = own_rows(vectors)
            if self._shape == (1,) and np.ndim(vectors) == 1:
                rows = rows.reshape(-1, 1)
        if rows is None:
            self.leave_out("unreadable", 1)
            return
        if not rows.size:
            return
        if any(
            each is not None and not isinstance(each, str) and len(each) != len(rows)
            for each in (session, ids)
        ):
            self.leave_out("unreadable", len(rows))
            return
        if not self._fits(rows):
            return
        item = (rows, key, session, trace, ids)
        if len(rows) >= BLOCK:  # it is still the caller's, and must not wait
            self._process([*self._intake.take(), item])
            return
        self._intake.put(item, len(rows))
        if self._intake.full:
            self._process(self._intake.take())

    def flush(self) -> None:
        """Measure what waits in the buffer."""
        with _ADD:
            self._process(self._intake.take())

    def _process(self, items: list[Item]) -> None:
        for batch in batches(items, self._shape[0] if self._shape else 0):
            self._take(batch)

    def _fits(self, rows: Floats) -> bool:
        if not self._shape:
            self._shape = rows.shape[1:]
        if rows.shape[1:] == self._shape:
            return True
        if not self.invalid["dimension"]:
            _log.warning(
                "drift monitor %r watches embeddings of %d dimensions and was given one of %d: "
                "those are left out and counted; give them a monitor of their own",
                self.name,
                self._shape[0] if self._shape else 0,
                rows.shape[1],
            )
        self.leave_out("dimension", len(rows))
        return False

    def leave_out(self, reason: str, many: int) -> None:
        """Count embeddings among the invalid ones that whoever feeds it could not hand over."""
        with self._fold:
            self.invalid[reason] += many

    def _take(self, batch: Batch) -> None:
        reference = self._reference
        if reference is None:
            self._learn(_only(batch, self._kept(batch.rows, usable(batch.rows))))
            return
        if batch.rows.shape[1] != reference.dimension:  # it was learned from others meanwhile
            self.leave_out("dimension", len(batch.rows))
            return
        block, odd = measure(reference, batch.rows, batch.marks)
        if odd is not None:
            kept = self._kept(batch.rows, ~odd)
            batch, block = _only(batch, kept), block[kept]
        key, rows, sessions, _ = batch
        with self._fold:
            if self._reference is not reference:  # it was replaced meanwhile
                self._keys.count(key, len(rows))
                return
            window = self._keys.window(key, reference)
            self._keys.seen[key] += len(rows)
            changes = window.take(block, sessions)
            status = self._key_status(key, window) if changes else None
            if self._sample is not None:
                self._sample.add(rows, sessions, batch.marks)
        if status is not None:
            self._tell(changes, status)
        if self._renew_at is not None and monotonic() >= self._renew_at:
            self._renew()

    def _kept(self, rows: Floats, good: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Indices of the rows that can be used; the others are counted."""
        for reason, found in _reasons(rows[~good]):
            self.leave_out(reason, found)
        return np.flatnonzero(good)

    def _tell(self, changes: Iterable[Change], status: KeyStatus) -> None:
        for change in changes:
            for listener in registry.listeners:
                with _TELL:
                    listener(self, change, status)

    # --- the reference -------------------------------------------------------------------------

    def _learn(self, batch: Batch) -> None:
        key, rows, sessions, marks = batch
        with self._fold:
            self._keys.count(key, len(rows))
            sample = self._sample
            if sample is None or sample.full:
                self._unwatched += len(rows)
                return
            room = sample.size - len(sample.rows)
            sample.add(rows[:room], sessions, marks)
            self._unwatched += max(len(rows) - room, 0)
            full = len(sample.rows) >= sample.size
        if full:
            self._fit(sample.contents)

    def _renew(self) -> None:
        with self._fold:
            sample = self._sample
            if sample is None or not sample.full or self._fitting:
                return
            self._sample = Sample(sample.size, self._seed)
        self._fit(sample.contents)

    def _fit(self, contents: Callable[[], tuple[Floats, Sequence[str]]]) -> None:
        """Fit a reference in the background."""

        def fit() -> None:
            with _FIT:
                try:
                    rows, ids = contents()
                    found = fit_reference(
                        rows, window=self.window, model=self.model, seed=self._seed, ids=ids
                    )
                except ValueError as error:
                    self._problem = str(error)
                    _log.warning("drift monitor %r has no reference: %s", self.name, error)
                else:
                    self._watch(found)
            self._refit = self._fitting = None

        self._refit = contents
        self._fitting = Thread(target=fit, name="llmwatch-drift", daemon=True)
        self._fitting.start()

    def _watch(self, reference: Reference) -> None:
        """Compare with *reference* from now on."""
        if self.model and reference.model and reference.model != self.model:
            raise ConfigError(
                f"the reference was made by model {reference.model!r}, and monitor {self.name!r} "
                f"watches {self.model!r}: fit a reference of that model."
            )
        if reference.window != self.window:
            raise ConfigError(
                f"the reference is calibrated for windows of {reference.window}, and monitor "
                f"{self.name!r} has windows of {self.window}: give window={reference.window}, or "
                "fit it again."
            )
        self.model = self.model or reference.model
        every = self._origin.every
        with self._fold:
            self._shape = (reference.dimension,)
            self._reference = reference
            self._tally = Tally(len(reference.counts))
            self._keys.clear()
            self._sample = Sample(self._origin.learn, self._seed) if every else None
            self._renew_at = monotonic() + every if every else None

    @property
    def reference(self) -> Reference | None:
        """What is compared with; None while it is being learned."""
        return self._reference

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the calibration that runs, if any; True if there is a reference.

        Args:
            timeout: Seconds; None: as long as it takes.
        """
        self.flush()
        fitting = self._fitting
        if fitting is not None:
            fitting.join(timeout)
        return self._reference is not None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the reference to a file, for ``reference="file:…"``; it holds no embedding.

        Raises:
            ConfigError: If there is none yet.
            OSError: If the file cannot be written.
        """
        if self._reference is None:
            raise ConfigError(f"drift monitor {self.name!r} has no reference to save yet.")
        files.save(self._reference, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str, **settings: Any) -> DriftMonitor:
        """A monitor whose reference, model and window are those of a saved reference.

        Args:
            path: The file.
            name: As in `DriftMonitor`.
            **settings: Likewise.

        Raises:
            ConfigError: If the file or a setting cannot be used.
            OSError: If the file cannot be read.
        """
        reference = files.load(path)
        return cls(name, reference, **{"window": reference.window, **settings})

    # --- what it knows -------------------------------------------------------------------------

    def state(self, key: str | None = None) -> State | None:
        """What is in a key's window, to be merged with that of other replicas; None: nothing.

        It can be pickled, and holds no embedding.
        """
        self.flush()
        with self._fold:
            window = self._keys.windows.get(key or "")
            return None if window is None else window.state()

    def merge(self, states: Iterable[State | None]) -> Verdict:
        """The verdict on windows of several replicas together.

        Args:
            states: What their `state` gave, None included; their references must be the same file.

        Raises:
            ConfigError: If there is no reference yet.
            ValueError: If the states are of another reference, or empty.
        """
        if self._reference is None:
            raise ConfigError(f"drift monitor {self.name!r} has no reference yet.")
        some = (each for each in states if each is not None)
        return judge(self._reference, reduce(State.merge, some, State.empty(self._reference)))

    def status(self) -> Status:
        """Everything it knows now; print it."""
        self.flush()
        with self._fold:
            reference, sample = self._reference, self._sample
            return Status(
                self.name,
                self.model,
                self._phase(),
                len(sample.rows) if sample else 0,
                self._origin.learn,
                reference.hash if reference else "",
                reference.size if reference else 0,
                time() - reference.made if reference else None,
                tuple(self._key_status(*each) for each in self._keys.windows.items()),
                dict(self._keys.seen),
                dict(self.invalid),
                self._unwatched,
                self._problem,
            )

    def _key_status(self, key: str, window: Window) -> KeyStatus:
        return KeyStatus(
            key,
            self._keys.seen[key],
            window.thinned,
            window.current.count,
            window.detector.alarm,
            window.early,
            window.verdict,
            tuple(window.foreign()),
        )

    def _phase(self) -> Phase:
        if self._reference is not None:
            return "watching"
        if self._problem:
            return "failed"
        return "learning" if self._fitting is None else "calibrating"

    def residuals(self) -> tuple[Reference, Totals] | None:
        """How far outside the reference's directions all items were; None: no reference yet."""
        self.flush()
        with self._fold:
            reference = self._reference
            return None if reference is None else (reference, self._tally.totals(reference.edges))

    def tail_threshold(self) -> float | None:
        """See `Reference.tail_threshold`, at this monitor's rate of false alarms."""
        reference = self._reference
        return None if reference is None else reference.tail_threshold(self.false_alarm)

    def plot(self, key: str | None = None) -> Figure:
        """Draw a key: p-values over time, where its items lie, how foreign they are.

        Args:
            key: As in `add`.

        Returns:
            A matplotlib figure; a notebook shows it, and its ``savefig`` writes it to a file.

        Raises:
            ConfigError: If there is no reference yet.
            MissingExtraError: If the extra ``plots`` is not installed.
        """
        from llmwatch.drift.plot import draw

        self.flush()
        with self._fold:
            reference = self._reference
            window = self._keys.windows.get(key or "")
            seen = None if window is None else window.seen()
        if reference is None:
            raise ConfigError(f"drift monitor {self.name!r} has no reference yet.")
        return draw(f"{self.name} {key or ''}".strip(), reference, seen, self.false_alarm)

    def forked(self) -> None:
        """Begin anew in a forked child."""
        self._begin()
        if self._fitting is not None and self._refit is not None:  # that thread is the parent's
            self._fit(self._refit)


def _check(
    name: object,
    window: object,
    false_alarm: object,
    least_effect: object,
    model: object,
    seed: object,
) -> None:
    """Raise a `ConfigError` for a setting that cannot be used."""
    wrong = ""
    if not isinstance(name, str) or not name:
        wrong = f"name={name!r} cannot be used: give a text"
    elif not isinstance(window, Integral) or int(window) < 2:
        wrong = f"window={window!r} cannot be used: give a whole number, at least 2"
    elif not isinstance(false_alarm, Real) or not 0 < float(false_alarm) < 1:
        wrong = f"false_alarm={false_alarm!r} cannot be used: give a rate between 0 and 1"
    elif not isinstance(least_effect, Real) or not 0 <= float(least_effect) <= 1:
        wrong = f"least_effect={least_effect!r} cannot be used: give a share from 0 to 1"
    elif not isinstance(model, str):
        wrong = f"model={model!r} cannot be used: give a text"
    elif not isinstance(seed, Integral) or int(seed) < 0:
        wrong = f"seed={seed!r} cannot be used: give a whole number, at least 0"
    if wrong:
        raise ConfigError(f"{wrong}.")


def _reference_rows(
    reference: ArrayLike, window: int, ids: Sequence[str]
) -> tuple[Floats, list[str]]:
    """A copy, for it is fitted later."""
    try:
        return usable_rows(reference, window, ids)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"this reference cannot be used: {error}") from None


def _only(batch: Batch, kept: NDArray[np.int64]) -> Batch:
    """The rows of a batch that are kept."""
    if len(kept) == len(batch.rows):
        return batch
    sessions, marks = batch.sessions, batch.marks
    return Batch(
        batch.key,
        batch.rows[kept],
        sessions and [sessions[i] for i in kept],
        marks and [marks[i] for i in kept],
    )


def _reasons(rows: Floats) -> Iterable[tuple[str, int]]:
    """Why rows are not usable, and how many for each reason."""
    nan = np.isnan(rows).any(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        zero = ~nan & (squared(rows) <= 0)  # or so small that its square is
    large = ~nan & ~zero
    found = {"nan": int(nan.sum()), "zero": int(zero.sum()), "inf": int(large.sum())}
    return ((reason, many) for reason, many in found.items() if many)
