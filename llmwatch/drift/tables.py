"""Embeddings, or numbers, in files: npy, npz, parquet."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from llmwatch._optional import require
from llmwatch.drift.reference import as_rows
from llmwatch.drift.subspace import Floats
from llmwatch.errors import ConfigError


def read(path: Path, name: str | None = None) -> Floats:
    """The embeddings in a file, shape ``(n, d)``; numbers have one dimension.

    Args:
        path: An ``.npy``, ``.npz`` or ``.parquet`` file.
        name: Of the array in the npz file, or of the column in the parquet file; None: there must
            be only one of embeddings.

    Raises:
        ConfigError: If there is no such array or column, or it is not what it should be.
        MissingExtraError: If the file is parquet and pyarrow is not installed.
        OSError: If the file cannot be read.
    """
    try:
        return _parquet(path, name) if path.suffix == ".parquet" else _numpy(path, name)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read as embeddings: {error}.") from None


def _numpy(path: Path, name: str | None) -> Floats:
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return as_rows(found)
        wanted = [name] if name else [each for each in found.files if found[each].ndim == 2]
        return as_rows(found[_only(path, wanted, found.files, "array of two axes")])


def _parquet(path: Path, name: str | None) -> Floats:
    pyarrow, parquet = (require(each, extra="parquet") for each in ("pyarrow", "pyarrow.parquet"))
    schema = parquet.read_schema(path)
    lists = [each.name for each in schema if _is_list(pyarrow, each.type)]
    column = _only(path, [name] if name else lists, schema.names, "column of lists")
    values = parquet.read_table(path, columns=[column])[column].combine_chunks()
    if not values.null_count and _is_number(pyarrow, values.type):
        return as_rows(values.to_numpy(zero_copy_only=False))
    if values.null_count or not _is_list(pyarrow, values.type):
        raise ValueError(f"column {column!r} has no number and no list of numbers in every row")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return as_rows(flat.reshape(len(values), -1))


def _is_number(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_list(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _only(path: Path, wanted: list[str], known: list[str], what: str) -> str:
    if len(wanted) != 1:
        raise ConfigError(f"{path} has {len(wanted)} {what}: say which of {known} with --name.")
    if wanted[0] not in known:
        raise ConfigError(f"{path} has no {wanted[0]!r}: say which of {known} with --name.")
    return wanted[0]
