"""GPTQ: rounds weights in order; those still to come compensate for the error of each.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR'23. For y = W x the loss of a row is (w - q) H (w - q)' with H = sum x x'.
Rounding column j leaves the error e = w_j - q_j; the loss is least if the others become
w_k - e U[j, k] / U[j, j], U the upper Cholesky factor of the inverse of H (equations 2 to 5).
The loss of a row is then the sum of (e_j / U[j, j])^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32
from ladder.passes.rounding.descent import descend
from ladder.passes.rounding.matrix import Rounded, finished, joined
from ladder.passes.rounding.search import Coder, GroupScales, least_squares

ROWS_AT_A_TIME = 2048  # a column batch of so many rows fits the cache
LEAST_RETRY, MOST_DAMPING = 1e-4, 100.0
SMALL_FACTOR = 64  # triangles up to this size are inverted directly


def gptq(
    weight: np.ndarray,
    dtype: DType,
    hessian: np.ndarray,
    damping: float = 0.01,
    block: int = 128,
) -> Rounded:
    """Round [N, K] to any type for the least error of its products; the Hessian is [K, K].

    The Hessian is the sum (or mean) of x x' over the tokens of a calibration text. Differences
    from the paper:

    - A group's scale and zero point are searched as by ``mse`` when its first column is reached,
      on weights that include the corrections so far, with each column weighted by 1 / U[j, j]^2.
      Without that, columns that are rarely active, which take most corrections, spoil the scale.
    - Within a group, columns come in the order of the Hessian's diagonal, largest first; for
      scales per row this is the paper's act-order. The order of groups does not change.
      - A column that is zero for all tokens is rounded to nearest, not set to 0.
      - Scales and codes are then improved in turns (``descent``).

    ``damping`` times the mean of the Hessian's diagonal is added to the diagonal. If that does
    not make it positive definite, ten times as much is added, and so on; ``Rounded.note`` says so.
    ``block`` is the size of a column batch (the paper's lazy batches), which affects only the
    speed. ``Rounded.relative_error`` is that of the weights, and larger than with ``mse``.
    """
    n, k = weight.shape
    if hessian.shape != (k, k):
        raise LadderError(f"a weight of {n} x {k} needs a Hessian of {k} x {k}")
    order = _order(np.diag(hessian), dtype.group_size(k))
    feedback = Feedback.of(hessian[np.ix_(order, order)], damping)
    coder = Coder.of(dtype, weight)
    w = coder.tame(weight)
    sorted_w = w[:, order]
    fixed = None
    if dtype.group == "tensor":
        every = np.tile(feedback.importance, n)
        fixed = least_squares(coder, sorted_w.reshape(1, 1, -1), every)
    damped = _damped(hessian, feedback.damping).astype(np.float32)
    codes, choices = [], []
    for i in range(0, n, ROWS_AT_A_TIME):
        rows = slice(i, i + ROWS_AT_A_TIME)
        some, choice = _round_rows(sorted_w[rows], coder, feedback, block, fixed)
        some, choice = descend(w[rows], some[:, np.argsort(order)], choice, coder, damped)
        codes.append(some)
        choices.append(choice)
    rounded = finished(np.concatenate(codes), fixed or joined(choices, axis=0), coder, w)
    if feedback.damping == damping:
        return rounded
    note = f"Hessian damped by {feedback.damping:g}, not {damping:g}, to be positive definite"
    return replace(rounded, note=note)


@dataclass(frozen=True, eq=False)
class Feedback:
    """What GPTQ needs of the Hessian: ``factors`` [K, K], ``importance`` [K], the damping used.

    An error in column j is subtracted from column k > j, times factors[j, k] = U[j, k] / U[j, j].
    Its loss is its square times importance[j] = U[j, j]^-2 (scaled to a mean of 1).
    """

    factors: F32
    importance: F32
    damping: float

    @staticmethod
    def of(hessian: np.ndarray, damping: float) -> Feedback:
        """With H = P P', P upper triangular, U = P^-1: one Cholesky decomposition, in float64."""
        while damping <= MOST_DAMPING:
            try:
                lower = np.linalg.cholesky(_damped(hessian, damping)[::-1, ::-1])
            except np.linalg.LinAlgError:
                damping = max(damping * 10, LEAST_RETRY)
                continue
            u = _upper_inverse(lower[::-1, ::-1])
            diagonal = np.diag(u)
            importance = diagonal**-2 / np.mean(diagonal**-2)
            factors = u / diagonal[:, None]
            return Feedback(factors.astype(np.float32), importance.astype(np.float32), damping)
        raise LadderError("the Hessian is not positive definite: it must be a sum of x x'")


def _damped(hessian: np.ndarray, damping: float) -> np.ndarray:
    """The Hessian in float64, damped, with columns without activations made independent."""
    h = np.array(hessian, np.float64)
    if not np.isfinite(h).all():
        raise LadderError("the Hessian has NaN or infinity; check the calibration data")
    dead = np.diag(h) == 0
    mean = float(np.diag(h)[~dead].mean()) if not dead.all() else 1.0
    if mean <= 0:
        raise LadderError("the Hessian is not positive definite: it must be a sum of x x'")
    h[dead, :] = h[:, dead] = 0
    h[dead, dead] = mean
    h[np.diag_indices_from(h)] += damping * mean
    return h


def _order(diagonal: np.ndarray, size: int) -> np.ndarray:
    """Columns by descending diagonal within their groups: permutation [K]."""
    starts = range(0, len(diagonal), size)
    return np.concatenate([i + np.argsort(-diagonal[i : i + size], kind="stable") for i in starts])


def _upper_inverse(p: np.ndarray) -> np.ndarray:
    """The inverse of an upper triangular matrix, by halves: NumPy has no triangular solver."""
    if len(p) <= SMALL_FACTOR:
        return np.triu(np.linalg.inv(p))
    half, out = len(p) // 2, np.zeros_like(p)
    first, last = _upper_inverse(p[:half, :half]), _upper_inverse(p[half:, half:])
    out[:half, :half], out[half:, half:] = first, last
    out[:half, half:] = -first @ p[:half, half:] @ last
    return out


def _round_rows(
    weight: F32, coder: Coder, feedback: Feedback, block: int, fixed: GroupScales | None
) -> tuple[np.ndarray, GroupScales]:
    """Codes [n, K] and choices [n, groups] of some rows; ``fixed`` is the tensor's choice."""
    n, k = weight.shape
    size = coder.dtype.group_size(k)
    w = np.array(weight.T, order="C")  # [K, n]: a column of the weight is contiguous
    codes, choices = [], []
    every = fixed.each_row(n) if fixed else None
    for start, end in _blocks(k, size, block):
        error = np.empty((end - start, n), np.float32)
        for j in range(start, end):
            if fixed is None and j % size == 0:
                group = np.ascontiguousarray(w[j : j + size].T)[:, None, :]
                choices.append(least_squares(coder, group, feedback.importance[j : j + size]))
            choice = every or choices[-1]
            column = w[j].reshape(n, 1, 1)
            codes.append(coder.encode(column, choice))
            error[j - start] = (column - coder.decode(codes[-1], choice)).reshape(n)
            w[j + 1 : end] -= feedback.factors[j, j + 1 : end, None] * error[j - start]
        w[end:] -= feedback.factors[start:end, end:].T @ error
    return np.concatenate(codes, axis=1)[..., 0], fixed or joined(choices, axis=1)


def _blocks(k: int, size: int, block: int) -> Iterator[tuple[int, int]]:
    """Column batches, which are corrected together: whole groups, or parts of one.

    So a group begins either inside a batch, where every correction is made at once, or with a
    batch, when all corrections have been made: its scale takes all errors so far into account.
    """
    step = size if size > block else block // size * size
    for first in range(0, k, step):
        last = min(first + step, k)
        yield from ((i, min(i + block, last)) for i in range(first, last, block))
