"""A reference in a file: a plain npz, never a pickle, which holds no embedding.

Written beside its place and moved there, readable by its owner only, and refused if it is not what
it says it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.calibration import Null
from llmwatch.drift.reference import Reference
from llmwatch.drift.subspace import Subspace
from llmwatch.errors import ConfigError

SCHEMA = 1
_ARRAYS = ("mean", "directions", "variances", "edges", "counts", "replicates", "least")


def save(reference: Reference, path: str | os.PathLike[str]) -> Path:
    """Write a reference; a file that is there is replaced, in one step.

    Size: 0.6 MB at 1536 dimensions.
    """
    model, null = reference.subspace, reference.null
    arrays: dict[str, NDArray[Any]] = {
        "mean": model.mean,
        "directions": model.directions,
        "variances": model.variances,
        "edges": reference.edges,
        "counts": reference.counts,
        "replicates": null.replicates,
        "least": null.least,
    }
    about = {
        "schema": SCHEMA,
        "model": reference.model,
        "dimension": reference.dimension,
        "size": reference.size,
        "spread": reference.spread,
        "twins": reference.twins,
        "noise": model.noise,
        "window": null.window,
        "made": reference.made,
    }
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


def load(path: str | os.PathLike[str]) -> Reference:
    """Read a reference.

    Raises:
        ConfigError: If it is no reference of llmwatch, of another release's schema, or damaged.
        OSError: If the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            arrays = {name: file[name] for name in _ARRAYS}
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _unusable(path, f"it is no drift reference ({error})") from None
    said = about.pop("sha256", None)
    if about.get("schema") != SCHEMA:
        raise _unusable(path, f"its schema is {about.get('schema')!r}, not {SCHEMA}")
    if said != _digest(about, arrays):
        raise _unusable(path, "its SHA-256 does not match: it is damaged or was edited")
    return Reference(
        Subspace(arrays["mean"], arrays["directions"], arrays["variances"], about["noise"]),
        arrays["edges"],
        arrays["counts"],
        about["size"],
        about["spread"],
        about["twins"],
        Null(about["window"], arrays["replicates"], arrays["least"]),
        about["made"],
        about["model"],
    )


def _unusable(path: object, why: str) -> ConfigError:
    return ConfigError(f"the reference {path!s} cannot be used: {why}. Fit it again.")


def _digest(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in _ARRAYS:
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
