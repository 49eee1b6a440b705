"""Improves the codes and scales of a rounded weight, one by one, for less error of its products.

GPTQ rounds each column once and never returns to it. With D = w - q the loss of a row is D H D'
(``gptq``). Here two steps alternate:

- the scales of a row become those with the least loss for its codes: least squares, with one
  unknown per group;
  - each column in turn takes the code nearest to the value with the least loss while all others
  stay, q_j + (D H)_j / H_jj: coordinate descent (Behdin et al., "QuantEase", 2023).

No step makes the loss of a row larger.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ladder.ir.numerics import F32
from ladder.passes.rounding.matrix import decoded_rows, encoded_rows, group_slices
from ladder.passes.rounding.search import Coder, GroupScales

ROUNDS = 2
BLOCK = 128  # columns in a column batch: their corrections reach later columns together
NUMBERS_AT_A_TIME = 1 << 23  # of the equations for scales, to bound memory


def descend(
    weight: F32, codes: np.ndarray, choice: GroupScales, coder: Coder, hessian: F32
) -> tuple[np.ndarray, GroupScales]:
    """Better codes [n, K] and scales for tame weights [n, K] under the (damped) Hessian [K, K].

    A scale of the whole tensor stays as it is.
    """
    whole = coder.dtype.group == "tensor"
    if whole:
        choice = choice.each_row(len(weight))
    for _ in range(ROUNDS):
        if not whole:
            choice = _refitted(weight, codes, choice, coder, hessian)
        codes = _swept(weight, codes, choice, coder, hessian)
    return codes, choice


def _refitted(
    weight: F32, codes: np.ndarray, choice: GroupScales, coder: Coder, hessian: F32
) -> GroupScales:
    """Each row's scales by least squares, in their stored type; kept where the loss falls."""
    values = decoded_rows(codes, GroupScales(np.ones_like(choice.scale), choice.zero), coder)
    starts, scale = _starts(coder, weight.shape[1]), np.empty_like(choice.scale)
    step = max(1, NUMBERS_AT_A_TIME // len(starts) ** 2)
    for i in range(0, len(weight), step):
        rows = slice(i, i + step)
        square, right = _equations(weight[rows], values[rows], starts, hessian)
        scale[rows] = _better(choice.scale[rows], square, right, coder)
    return GroupScales(scale, choice.zero)


def _equations(weight: F32, values: F32, starts: list[int], hessian: F32) -> tuple[F32, F32]:
    """A [n, G, G] and b [n, G]: the loss of a row's scales s is s A s' - 2 s b' + W H W'.

    With V_g the values of group g, A[g, h] = V_g H V_h' and b[g] = V_g H W'.
    """
    square = np.empty((len(weight), len(starts), len(starts)), np.float32)
    right = np.empty((len(weight), len(starts)), np.float32)
    for g, (first, last) in enumerate(pairwise([*starts, weight.shape[1]])):
        pull = values[:, first:last] @ hessian[first:last]
        square[:, g] = np.add.reduceat(pull * values, starts, axis=1)
        right[:, g] = np.vecdot(pull, weight)
    return square, right


def _better(scale: F32, square: F32, right: F32, coder: Coder) -> F32:
    """Scales [n, G] with less loss; rows for which none are found keep theirs."""
    a, b, old = (x.astype(np.float64) for x in (square, right, scale))
    # A small term pulls towards the present scales, so that groups of zeros keep theirs.
    pull = 1e-6 * np.maximum(np.einsum("ngg->ng", a).mean(1), 1e-30)[:, None]
    eased = a + pull[..., None] * np.eye(a.shape[1])
    solved = np.linalg.solve(eased, (b + pull * old)[..., None])[..., 0]
    found = coder.scales.rounded(solved.astype(np.float32))

    def loss(s: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("ng,ngh,nh->n", s, a, s) - 2 * np.vecdot(s, b))

    return np.where((loss(found.astype(np.float64)) < loss(old))[:, None], found, scale)


def _swept(
    weight: F32, codes: np.ndarray, choice: GroupScales, coder: Coder, hessian: F32
) -> np.ndarray:
    """Codes after every column has been chosen again, from the first to the last."""
    n, k = weight.shape
    now = decoded_rows(codes, choice, coder)
    pull = np.ascontiguousarray(((weight - now) @ hessian).T)  # [K, n]: a column is contiguous
    now = np.ascontiguousarray(now.T)
    starts, diagonal = _starts(coder, k), np.diag(hessian)
    group = np.searchsorted(starts, np.arange(k), side="right") - 1
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        change = np.empty((last - first, n), np.float32)
        for j in range(first, last):
            some, wanted = _column(choice, group[j]), now[j] + pull[j] / diagonal[j]
            new = coder.values(wanted.reshape(n, 1, 1), some)[:, 0, 0] * some.scale[:, 0]
            change[j - first] = new - now[j]
            now[j] = new
            pull[j + 1 : last] -= hessian[j, j + 1 : last, None] * change[j - first]
        pull[last:] -= hessian[last:, first:last] @ change
    return encoded_rows(np.ascontiguousarray(now.T), choice, coder)


def _starts(coder: Coder, k: int) -> list[int]:
    """The first column of every group."""
    parts = group_slices(coder.dtype, k)
    return [start for part, size in parts for start in range(part.start, part.stop, size)]


def _column(choice: GroupScales, group: int) -> GroupScales:
    """The choice of one group, for a column of it."""
    zero = None if choice.zero is None else choice.zero[:, group : group + 1]
    return GroupScales(choice.scale[:, group : group + 1], zero)
