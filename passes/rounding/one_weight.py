"""One weight rounded by a method of the registry, and the error of its products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.methods import METHODS, UNCALIBRATED, Method, find_method

ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Outcome:
    """A rounded weight, the method that made it, and the output error of each that was tried."""

    rounded: Rounded
    method: str
    output_errors: dict[str, float]


def round_by(
    name: str, weight: np.ndarray, dtype: DType, hessian: np.ndarray | None = None
) -> Outcome:
    """Round [N, K] by a method; one that chooses among others takes the least output error.

    Methods that need the Hessian [K, K] are replaced by ``UNCALIBRATED`` without one. Methods that
    need the whole model only round this one weight here.
    """
    if dtype.minimum:
        raise LadderError(
            f"type '{dtype}': weights that a file stores in it are kept, none are rounded to it; "
            f"write {str(dtype).replace(':min', ':zpf')}"
        )
    method = find_method(name)
    if hessian is None or not method.needs.hessians:
        plain = METHODS[UNCALIBRATED] if method.needs.hessians else method
        return Outcome(_rounded(plain, weight, dtype, None), plain.name, {})
    tried = {other.name: _rounded(other, weight, dtype, hessian) for other in _tried(method)}
    errors = {other: output_error(weight, r, dtype, hessian) for other, r in tried.items()}
    made = min(errors, key=lambda other: errors[other]) if method.among else name
    return Outcome(tried[made], made, errors)


def _tried(method: Method) -> Sequence[Method]:
    """The methods to try: those it chooses among, else itself and cheap ones to compare with."""
    if method.among:
        return [METHODS[name] for name in method.among]
    return [*(other for other in METHODS.values() if not other.needs.hessians), method]


def _rounded(
    method: Method, weight: np.ndarray, dtype: DType, hessian: np.ndarray | None
) -> Rounded:
    assert method.round is not None
    return method.round(weight, dtype, hessian)


def output_error(weight: np.ndarray, rounded: Rounded, dtype: DType, hessian: np.ndarray) -> float:
    """|(W - Q) X| / |W X| (Frobenius), from H = X X': the root of tr(D H D') / tr(W H W')."""
    q = dequantized(dtype, rounded.codes, rounded.scale, rounded.zero, rounded.tensor_scale)
    miss = power = 0.0
    for first in range(0, len(weight), ROWS_AT_A_TIME):
        rows = slice(first, first + ROWS_AT_A_TIME)
        miss += _energy(weight[rows] - q[rows], hessian)
        power += _energy(weight[rows], hessian)
    return max(miss / power, 0.0) ** 0.5 if power > 0 else 0.0


def _energy(rows: F32, hessian: np.ndarray) -> float:
    return float(np.einsum("nk,nk->", rows @ hessian, rows, dtype=np.float64))
