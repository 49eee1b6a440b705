"""Arrays of any dtype with a report about them, in one file: codes of weights and their scales."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray | None], report: Mapping[str, Any]
) -> None:
    """Write the arrays that are not None, and a report, which is values of JSON."""
    there = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    kinds = {name: str(array.dtype) for name, array in there.items()}
    text = np.array(json.dumps({**report, "kinds": kinds}))
    raw = {name: _plain(array) for name, array in there.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, report=text, **raw)


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file of ``save_arrays``: its arrays and its report."""
    try:
        with np.load(path) as file:
            report = json.loads(str(file["report"]))
            kinds = report.pop("kinds")
            return {name: file[name].view(np.dtype(kind)) for name, kind in kinds.items()}, report
    except (OSError, ValueError, KeyError) as error:
        raise LadderError(f"{path}: cannot read this rounded weight: {error}") from error


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type of NumPy's own: a file of bfloat16 or float8 could not be read again."""
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
