"""A reference, or a window's state, in a file: a plain npz, never a pickle, without embeddings.

Written beside its place and moved there, readable by its owner only, and refused if it is not what
it says it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.calibration import Null
from llmwatch.drift.reference import Reference
from llmwatch.drift.regions import Regions
from llmwatch.drift.state import Foreign, State
from llmwatch.drift.subspace import Subspace
from llmwatch.drift.totals import Totals
from llmwatch.errors import ConfigError

SCHEMA = 5
Where = str | os.PathLike[str]
Arrays = dict[str, NDArray[Any]]

_SUMS = (
    *("energy", "blocks", "between", "runs", "between_runs", "steps", "neighbours"),
    *("near", "far", "far_pairs", "count"),
)


_NOT_OURS = (
    *(ValueError, TypeError, AttributeError, KeyError, IndexError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


def save(reference: Reference, path: Where) -> Path:
    """Write a reference; a file that is there is replaced, in one step.

    Size: 0.5 MB at 1536 dimensions.

    Raises:
        OSError: If the file cannot be written.
    """
    model, null, regions = reference.subspace, reference.null, reference.regions
    about = {
        "model": reference.model,
        "dimension": reference.dimension,
        "size": reference.size,
        "spread": reference.spread,
        "twins": reference.twins,
        "noise": model.noise,
        "window": null.window,
        "region_ids": regions.ids,
        "made": reference.made,
        "totals": dataclasses.astuple(reference.totals),
    }
    arrays: Arrays = {
        "mean": model.mean,
        "centre": model.centre,
        "directions": model.directions,
        "variances": model.variances,
        "edges": reference.edges,
        "counts": reference.counts,
        "replicates": null.replicates,
        "together": null.together,
        "centres": regions.centres,
        "shares": regions.shares,
        "sketch": reference.sketch,
    }
    return _write(path, "reference", about, arrays)


def load(path: Where) -> Reference:
    """Read a reference.

    Raises:
        ConfigError: If it is no reference of llmwatch, of another release's schema, or damaged.
        OSError: If the file cannot be read.
    """
    about, arrays = _read(path, "reference")
    ids = tuple(tuple(each) for each in about["region_ids"])
    edges, counts, *extent = about["totals"]
    return Reference(
        Subspace(
            arrays["mean"],
            arrays["centre"],
            arrays["directions"],
            arrays["variances"],
            about["noise"],
        ),
        arrays["edges"],
        arrays["counts"],
        about["size"],
        about["spread"],
        about["twins"],
        Null(about["window"], arrays["replicates"], arrays["together"]),
        Regions(arrays["centres"], arrays["shares"], ids),
        arrays["sketch"],
        Totals(tuple(edges), tuple(counts), *extent),
        about["made"],
        about["model"],
    )


def save_state(state: State | None, path: Where) -> Path:
    """Write the state of a window, to be merged with those of other replicas.

    Size: 20 kB at 1536 dimensions.

    Raises:
        ConfigError: If there is none: `DriftMonitor.state` gave None.
        OSError: If the file cannot be written.
    """
    if state is None:
        raise ConfigError("there is no state to save: nothing was added to that key yet.")
    about = {name: getattr(state, name) for name in (*_SUMS, "reference", "foreign")}
    arrays = {"shift": state.shift, "counts": state.counts, "inside": state.inside}
    return _write(path, "state", about, arrays)


def load_state(path: Where) -> State:
    """Read the state of a window.

    Raises:
        ConfigError: If it is no state of llmwatch, of another release's schema, or damaged.
        OSError: If the file cannot be read.
    """
    about, arrays = _read(path, "state")
    return State(
        about["reference"],
        arrays["shift"],
        arrays["counts"],
        arrays["inside"],
        foreign=[Foreign(*each) for each in about["foreign"]],
        **{name: about[name] for name in _SUMS},
    )


def _write(path: Where, kind: str, about: dict[str, Any], arrays: Arrays) -> Path:
    about = {**about, "kind": kind, "schema": SCHEMA}
    about["sha256"] = _digest(about, arrays)
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    place = Path(path)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return place


def _read(path: Where, kind: str) -> tuple[dict[str, Any], Arrays]:
    try:
        with Path(path).open("rb") as file:
            saved = np.load(file, allow_pickle=False)
            about = json.loads(str(saved["about"]))
            arrays = {name: saved[name] for name in saved.files if name != "about"}
        found, schema, said = about.get("kind", "reference"), about["schema"], about.pop("sha256")
    except _NOT_OURS as error:
        raise _unusable(path, kind, f"it is no file of llmwatch ({type(error).__name__})") from None
    if found != kind:
        raise _unusable(path, kind, f"it is a {found}")
    if schema != SCHEMA:
        raise _unusable(path, kind, f"its schema is {schema!r}, not {SCHEMA}")
    if said != _digest(about, arrays):
        raise _unusable(path, kind, "its SHA-256 does not match: it is damaged or was edited")
    return about, arrays


def _unusable(path: object, kind: str, why: str) -> ConfigError:
    return ConfigError(f"{path!s} cannot be used as drift {kind}: {why}. Make it again.")


def _digest(about: dict[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
