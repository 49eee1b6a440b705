"""Codes and scales of a rounded weight improved one by one, for the least error of its products.

GPTQ goes over the columns once, and what a column becomes is never looked at again. With
D = w - q the loss of a row is D H D' (``gptq``). Here, in turns,

- the scales of a row become those with the least loss for its codes: least squares, one unknown
  a group;
- column after column takes the code nearest to where the loss is least while all others stay,
  q_j + (D H)_j / H_jj: coordinate descent (Behdin et al., "QuantEase", 2023, equation 9).

No step makes the loss of a row larger.
"""

from __future__ import annotations

import numpy as np

from ladder.ir.numerics import F32
from ladder.passes.rounding.matrix import decoded_rows, encoded_rows, group_slices
from ladder.passes.rounding.search import Choice, Coder

ROUNDS = 2
BLOCK = 128  # columns whose corrections reach the others together


def descend(
    weight: F32, codes: np.ndarray, choice: Choice, coder: Coder, hessian: F32
) -> tuple[np.ndarray, Choice]:
    """Better codes [n, K] and choice for tame weights [n, K] under the (damped) Hessian [K, K].

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


def _refitted(weight: F32, codes: np.ndarray, choice: Choice, coder: Coder, hessian: F32) -> Choice:
    """Each row's scales by least squares, as they can be stored; kept where the loss falls."""
    ones = Choice(np.ones_like(choice.scale), choice.zero)
    values = decoded_rows(codes, ones, coder)
    starts = _starts(coder, weight.shape[1])
    ends = [*starts[1:], weight.shape[1]]
    rows = [values[:, a:b] @ hessian[a:b] for a, b in zip(starts, ends, strict=True)]  # V_g H
    square = np.stack([np.add.reduceat(row * values, starts, axis=1) for row in rows], 1)
    wanted = np.stack([np.einsum("nk,nk->n", row, weight) for row in rows], 1)
    size = np.einsum("ngg->ng", square).mean(1)
    # A little pulls towards the scales that there are: groups of zeros keep theirs.
    ridge = 1e-6 * np.maximum(size, np.float32(1e-30))
    damped = square + ridge[:, None, None] * np.eye(len(starts), dtype=np.float32)
    right = (wanted + ridge[:, None] * choice.scale)[..., None]
    solved = np.linalg.solve(damped.astype(np.float64), right.astype(np.float64))[..., 0]
    found = Choice(coder.scales.rounded(solved.astype(np.float32)), choice.zero)
    before, after = (_loss(c.scale, square, wanted) for c in (choice, found))
    return choice.where((after < before)[:, None], found)


def _loss(scale: F32, square: F32, wanted: F32) -> np.ndarray:
    """D H D' of each row, but for W H W'."""
    wide = scale.astype(np.float64)
    return np.asarray(np.einsum("ng,ngh,nh->n", wide, square, wide) - 2 * np.vecdot(wide, wanted))


def _swept(
    weight: F32, codes: np.ndarray, choice: Choice, coder: Coder, hessian: F32
) -> np.ndarray:
    """Codes after every column has been chosen anew, from the first to the last."""
    n, k = weight.shape
    now = decoded_rows(codes, choice, coder)
    pull = np.ascontiguousarray(((weight - now) @ hessian).T)  # [K, n]: a column lies together
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


def _column(choice: Choice, group: int) -> Choice:
    """The choice of one group, for a column of it."""
    zero = None if choice.zero is None else choice.zero[:, group : group + 1]
    return Choice(choice.scale[:, group : group + 1], zero)
