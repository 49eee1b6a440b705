"""A rounded weight as a file: made in one place, put into the model in another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.one_weight import Outcome
from ladder.support.typed_arrays import load_arrays, save_arrays

ARRAYS = ("codes", "scale", "zero", "tensor_scale")


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write codes, scales and what is reported about them."""
    rounded = outcome.rounded
    report = {
        "method": outcome.method,
        "output_errors": outcome.output_errors,
        "relative_error": rounded.relative_error,
        "note": rounded.note,
    }
    save_arrays(path, {name: getattr(rounded, name) for name in ARRAYS}, report)


def load_outcome(path: Path) -> Outcome:
    """Read a file of ``save_outcome``."""
    found, report = load_arrays(path)
    scale = found.get("tensor_scale")
    rounded = Rounded(
        found["codes"],
        found["scale"],
        found.get("zero"),
        report["relative_error"],
        None if scale is None else np.float32(scale),
        report["note"],
    )
    return Outcome(rounded, report["method"], report["output_errors"])
