"""How far two results of one computation differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LIMIT = 1e-4  # of the largest value: more than the order of float32 operations explains
HALF_LIMIT = 2e-2  # the same in float16 and bfloat16


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a part of the largest value; infinite for another shape.

    Where ``wanted`` is no finite number, nothing is compared.
    """
    if got.shape != wanted.shape:
        return np.inf
    finite = np.isfinite(wanted.astype(np.float64))
    a, b = got.astype(np.float64)[finite], wanted.astype(np.float64)[finite]
    if not np.isfinite(a).all():
        return np.inf
    apart, largest = np.abs(a - b).max(initial=0.0), np.abs(b).max(initial=0.0)
    if apart == 0:
        return 0.0
    return float(apart / largest) if largest else np.inf


def limit_of(*arrays: np.ndarray) -> float:
    """The difference that float arithmetic explains, with these types."""
    half = any(a.dtype.kind in "fV" and a.dtype.itemsize < 4 for a in arrays)
    return HALF_LIMIT if half else LIMIT


def excess(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The outputs that differ by more than float arithmetic explains, and by how much."""
    found = {name: difference(array, wanted[name]) for name, array in got.items()}
    return {name: e for name, e in found.items() if not e <= limit_of(wanted[name])}


def largest(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest difference of all outputs."""
    return max((difference(array, wanted[name]) for name, array in got.items()), default=0.0)
