"""Rounding by name, calibrated methods too, and what each costs the products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32
from ladder.passes.rounding.gptq import gptq
from ladder.passes.rounding.matrix import METHODS, Rounded

GPTQ, GPTAQ, BEST, LEARNED = "gptq", "gptaq", "best", "learned"
CALIBRATED = (GPTQ, GPTAQ, BEST, LEARNED)
WHOLE = (GPTAQ, LEARNED)  # of which no weight is rounded by itself: see the fact Finished
NAMES = (*METHODS, *CALIBRATED)
UNCALIBRATED = "mse"  # for weights of which no Hessian is known
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Outcome:
    """A rounded weight, the method that made it, and the output error of each that was tried."""

    rounded: Rounded
    method: str
    output_errors: dict[str, float]


def check_method(name: str) -> None:
    """Refuse a rounding that is none."""
    if name not in NAMES:
        raise LadderError(f"unknown rounding '{name}'; one of: {', '.join(NAMES)}")


def round_by(
    method: str, weight: np.ndarray, dtype: DType, hessian: np.ndarray | None = None
) -> Outcome:
    """Round [N, K] by a method; ``best`` takes the one with the least output error.

    Calibrated methods need the Hessian [K, K]; without one they are ``mse``. ``gptaq`` and
    ``learned`` are ``gptq`` here: what sets them apart takes the whole model.
    """
    if hessian is None or method not in CALIBRATED:
        name = UNCALIBRATED if method in CALIBRATED else method
        return Outcome(METHODS[name](weight, dtype), name, {})
    # rtn and mse cost little beside gptq, and show what it gains.
    tried = {name: work(weight, dtype) for name, work in METHODS.items()}
    calibrated = GPTQ if method == BEST else method
    tried[calibrated] = gptq(weight, dtype, hessian)
    errors = {name: output_error(weight, r, dtype, hessian) for name, r in tried.items()}
    name = min(errors, key=lambda name: errors[name]) if method == BEST else method
    return Outcome(tried[name], name, errors)


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
