"""A rounded weight as a file: made in one place, put into the model in another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.one_weight import Outcome

ARRAYS = ("codes", "scale", "zero", "tensor_scale")


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write codes, scales and what is reported about them."""
    rounded = outcome.rounded
    arrays = {name: getattr(rounded, name) for name in ARRAYS}
    kinds = {name: str(a.dtype) for name, a in arrays.items() if a is not None}
    reported = {
        "kinds": kinds,
        "method": outcome.method,
        "output_errors": outcome.output_errors,
        "relative_error": rounded.relative_error,
        "note": rounded.note,
    }
    raw = {name: _plain(a) for name, a in arrays.items() if a is not None}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, report=np.array(json.dumps(reported)), **raw)


def load_outcome(path: Path) -> Outcome:
    """Read a file of ``save_outcome``."""
    try:
        with np.load(path) as file:
            reported = json.loads(str(file["report"]))
            found = {
                name: file[name].view(np.dtype(kind)) for name, kind in reported["kinds"].items()
            }
    except (OSError, ValueError, KeyError) as error:
        raise LadderError(f"{path}: cannot read this rounded weight: {error}") from error
    scale = found.get("tensor_scale")
    rounded = Rounded(
        found["codes"],
        found["scale"],
        found.get("zero"),
        reported["relative_error"],
        None if scale is None else np.float32(scale),
        reported["note"],
    )
    return Outcome(rounded, reported["method"], reported["output_errors"])


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type of NumPy's own: a file of bfloat16 or float8 could not be read again."""
    array = np.asarray(array)
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
