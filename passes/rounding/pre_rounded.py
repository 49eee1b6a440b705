"""A rounded weight as a file: made in one place, put into the model in another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.methods import Outcome

ARRAYS = ("codes", "scale", "zero", "tensor_scale")


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write codes, scales and what is told of them."""
    rounded = outcome.rounded
    arrays = {name: getattr(rounded, name) for name in ARRAYS}
    kinds = {name: str(a.dtype) for name, a in arrays.items() if a is not None}
    told = {
        "kinds": kinds,
        "method": outcome.method,
        "output_errors": outcome.output_errors,
        "relative_error": rounded.relative_error,
        "note": rounded.note,
    }
    raw = {name: _plain(a) for name, a in arrays.items() if a is not None}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, told=np.array(json.dumps(told)), **raw)


def load_outcome(path: Path) -> Outcome:
    """Undo ``save_outcome``."""
    try:
        with np.load(path) as file:
            told = json.loads(str(file["told"]))
            found = {name: file[name].view(np.dtype(kind)) for name, kind in told["kinds"].items()}
    except (OSError, ValueError, KeyError) as error:
        raise LadderError(f"{path}: cannot read this rounded weight: {error}") from error
    scale = found.get("tensor_scale")
    rounded = Rounded(
        found["codes"],
        found["scale"],
        found.get("zero"),
        told["relative_error"],
        None if scale is None else np.float32(scale),
        told["note"],
    )
    return Outcome(rounded, told["method"], told["output_errors"])


def _plain(array: np.ndarray) -> np.ndarray:
    """NumPy's own types: a file of bfloat16 or float8 would not be read again."""
    array = np.asarray(array)
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
