"""Patches that undo themselves exactly.

A table of `Patch` rows is installed module by module, when the module is imported (or at once if
it already was): installing never imports the patched library. Undo disarms first, then puts the
original back only where our wrapper is still on top; elsewhere the disarmed wrapper stays and
passes calls through. A wrapt proxy equals what it wraps, so everything here compares by identity.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from importlib import import_module
from itertools import groupby
from pkgutil import resolve_name
from threading import RLock
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

from llmwatch._guard import Guard

_log = logging.getLogger("llmwatch")

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""``wrapper(wrapped, instance, args, kwargs)``, as wrapt calls it."""


class Patch(NamedTuple):
    """One row of a patch table."""

    module: str
    """Dotted module name; the patch is applied when it is imported."""
    path: str
    """Attribute path inside the module, for example ``"Completions.create"``."""
    wrapper: Wrapper
    optional: bool = False
    """True: versions of the library exist that lack this attribute."""


class _Applied(NamedTuple):
    module: str
    owner: Any
    name: str
    original: Any
    ours: Any
    inherited: bool


class _Copied:
    """Pickled and copied as what it wraps would be; wrapt's own refuse. Cost: 0.1 µs a call."""

    __slots__ = ()
    __wrapped__: Any

    def __reduce_ex__(self, protocol: Any) -> Any:
        wrapped = self.__wrapped__
        if hasattr(wrapped, "__self__"):
            return wrapped.__reduce_ex__(protocol)
        return resolve_name, (f"{wrapped.__module__}:{wrapped.__qualname__}",)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        wrapped = self.__wrapped__
        if not hasattr(wrapped, "__self__"):
            return self
        return getattr(deepcopy(wrapped.__self__, memo), wrapped.__name__)


class _Bound(_Copied, wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # not at run time
    """A method that was looked up."""


class _Ours(_Copied, wrapt.FunctionWrapper):  # type: ignore[type-arg]  # not at run time
    """What we put in the place of a function."""

    __bound_function_wrapper__ = _Bound


class Patches:
    """A table of patches, installed and undone together.

    Args:
        name: Who patches, for log lines.
        table: The rows. The rows of one module are applied all or nothing.
    """

    def __init__(self, name: str, table: Iterable[Patch]) -> None:
        self.name = name
        self.armed = False
        self._table = sorted(table, key=lambda patch: patch.module)
        self._applied: list[_Applied] = []
        self._lock = RLock()

    def install(self) -> None:
        """Arm and apply now, or when the module is imported. Doing it twice changes nothing."""
        with self._lock:
            if self.armed:
                return
            self.armed = True
            _installed.append(self)
        for module, rows in groupby(self._table, key=lambda patch: patch.module):
            when_imported(module, _Apply(self, list(rows)))

    def undo(self) -> None:
        """Disarm, then restore every attribute on which our wrapper is still on top."""
        with self._lock:
            if self.armed:
                _installed.remove(self)
            self.armed = False
            _forget(self)
            while self._applied:
                _restore(self._applied.pop())

    @property
    def modules(self) -> dict[str, bool]:
        """The modules of the table, and of each whether its rows are applied."""
        applied = {each.module for each in self._applied}
        return {row.module: row.module in applied for row in self._table}

    def _apply(self, module: ModuleType, rows: list[Patch]) -> None:
        with self._lock:
            if not self.armed:
                return
            done: list[_Applied] = []
            try:
                for row in rows:
                    done += self._apply_one(module, row)
            except AttributeError as error:
                for applied in reversed(done):
                    _restore(applied)
                _log.warning("llmwatch cannot watch %s: %s (%s)", self.name, error, module.__name__)
                return
            self._applied += done

    def _apply_one(self, module: ModuleType, row: Patch) -> list[_Applied]:
        try:
            owner, name, original = wrapt.resolve_path(module, row.path)
        except AttributeError:
            if row.optional:
                return []
            raise
        wrapper, inherited = _armed(self, row.wrapper), False
        if isinstance(owner, type) and name not in vars(owner):
            wrapper, inherited = _resolved(owner, name, wrapper), True
        ours = _Ours(original, wrapper)
        setattr(owner, name, ours)
        return [_Applied(module.__name__, owner, name, original, ours, inherited)]


class Late:
    """What starts when a library is imported, or at once if it already was.

    Args:
        library: Dotted name of a module; also who starts, for log lines.
        start: Returns what undoes it.
    """

    def __init__(self, library: str, start: Callable[[], Callable[[], object]]) -> None:
        self.library = library
        self._start = start
        self._undo: Callable[[], object] | None = None
        self._ended = False
        self._lock = RLock()

    def install(self) -> None:
        """Start now, or when the library is imported."""
        when_imported(self.library, self._imported)

    def undo(self) -> None:
        """Undo it, or never start it."""
        forget(self._imported)
        with self._lock:
            self._ended = True
            undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def _imported(self, _: ModuleType) -> None:
        with Guard("patching.start"), self._lock:
            if not self._ended and self._undo is None:
                self._undo = self._start()


_installed: list[Patches] = []


def installed() -> tuple[Patches, ...]:
    """What is installed in this process at this moment, for whoever looks at it."""
    return tuple(_installed)


def awaited() -> tuple[str, ...]:
    """The libraries that something starts with once they are imported."""
    with _waiting_lock:
        waiting = [each for callbacks in _waiting.values() for each in callbacks]
    owners = (getattr(each, "__self__", None) for each in waiting)
    return tuple(each.library for each in owners if isinstance(each, Late))


def _armed(patches: Patches, wrapper: Wrapper) -> Wrapper:
    def call(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if patches.armed:
            return wrapper(wrapped, instance, args, kwargs)
        return wrapped(*args, **kwargs)

    return call


def _resolved(owner: type, name: str, wrapper: Wrapper) -> Wrapper:
    """Look the inherited method up at each call: somebody may patch the base class after us."""

    def call(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(instance, owner):
            wrapped = getattr(super(owner, instance), name)
        return wrapper(wrapped, instance, args, kwargs)

    return call


def _restore(applied: _Applied) -> None:
    if vars(applied.owner).get(applied.name) is not applied.ours:
        return  # somebody patched over us: our disarmed wrapper stays underneath
    if applied.inherited:
        delattr(applied.owner, applied.name)
    else:
        setattr(applied.owner, applied.name, applied.original)


class _Apply:
    """What waits for one module's import on behalf of one `Patches`."""

    def __init__(self, patches: Patches, rows: list[Patch]) -> None:
        self.patches = patches
        self.rows = rows

    def __call__(self, module: ModuleType) -> None:
        with Guard("patching.apply"):
            self.patches._apply(module, self.rows)


_waiting: dict[str, list[Callable[[ModuleType], None]]] = {}
_hooked: set[str] = set()
_waiting_lock = RLock()


def when_imported(module: str, callback: Callable[[ModuleType], None]) -> None:
    """Call *callback* with the module once it is imported; at once if it already is.

    wrapt's import hooks cannot be taken back, so one hook a module is registered for the life of
    the process, and what it calls is kept here, where it can be removed.
    """
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded.__spec__, "_initializing", False):
        # Another thread imports it at this moment: this waits until it is done.
        import_module(module)
    with _waiting_lock:
        loaded = sys.modules.get(module)
        if loaded is None:
            _waiting.setdefault(module, []).append(callback)
            if module not in _hooked:
                _hooked.add(module)
                wrapt.register_post_import_hook(_imported, module)
            return
    callback(loaded)


def _imported(module: ModuleType) -> None:
    with _waiting_lock:
        _hooked.discard(module.__name__)
        callbacks = _waiting.pop(module.__name__, [])
    for callback in callbacks:
        callback(module)


def forget(callback: Callable[[ModuleType], None]) -> None:
    """Call *callback* no more, if it still waits."""
    with _waiting_lock:
        for callbacks in _waiting.values():
            callbacks[:] = [each for each in callbacks if each != callback]


def _forget(patches: Patches) -> None:
    with _waiting_lock:
        for callbacks in _waiting.values():
            callbacks[:] = [
                each
                for each in callbacks
                if not (isinstance(each, _Apply) and each.patches is patches)
            ]
