"""Round a whole weight: rows and groups are cut out, rounded, and joined again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ladder.ir.dtype import FLOAT_ZERO, DType
from ladder.ir.numerics import F32
from ladder.passes.rounding.search import Chooser, Coder, GroupScales, least_squares, spanning

WEIGHTS_AT_A_TIME = 1 << 17  # keeps the search's temporaries in the cache


@dataclass(frozen=True)
class Rounded:
    """Codes [N, K] as the IR stores them (``Element.from_unsigned``).

    Scale and zero have the shape of ``DType.scale_shape``; the scale has its stored type
    (``dtype.SCALES``), the zero is uint8 or, for ``zpf``, of the scale's type. ``tensor_scale``
    is set for types that have one. ``relative_error`` is the root of the summed squared errors
    over the root of the summed squared weights; ``note`` says where options were not followed.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    relative_error: float
    tensor_scale: np.float32 | None = None
    note: str = ""


def rtn(weight: np.ndarray, dtype: DType) -> Rounded:
    """Round to nearest with the scale that spans the group (``search.spanning``)."""
    return _round(weight, dtype, spanning)


def mse(weight: np.ndarray, dtype: DType) -> Rounded:
    """Search each group's scale for the least squared weight error (``search.least_squares``)."""
    return _round(weight, dtype, least_squares)


def group_slices(dtype: DType, k: int) -> list[tuple[slice, int]]:
    """The columns of whole groups, then those of a short last one; each with its group size."""
    size = dtype.group_size(k)
    whole = k - k % size
    parts = [(slice(0, whole), size)] if whole else []
    return [*parts, (slice(whole, k), k - whole)] if whole < k else parts


def finished(codes: np.ndarray, choice: GroupScales, coder: Coder, weight: F32) -> Rounded:
    """The stored form of codes [N, K]; ``weight`` is tame (``Coder.tame``)."""
    dtype, zero = coder.dtype, choice.zero
    if zero is not None:
        zero = zero.astype(dtype.zero_kind if dtype.zero == FLOAT_ZERO else np.uint8)
    error = power = 0.0
    for rows in _row_slices(*weight.shape):
        w = weight[rows]
        miss = decoded_rows(codes[rows], _rows_of(choice, rows), coder) - w
        error += float(np.vdot(miss, miss))
        power += float(np.vdot(w, w))
    return Rounded(
        codes,
        coder.scales.store(choice.scale),
        zero,
        (error / power) ** 0.5 if power > 0 else 0.0,
        coder.scales.factor if dtype.tensor_scale else None,
    )


def decoded_rows(codes: np.ndarray, choice: GroupScales, coder: Coder) -> F32:
    """Tame weights [n, K] of codes [n, K]."""
    n, k = codes.shape
    out = np.empty((n, k), np.float32)
    for columns, size, some in _parts(choice, coder.dtype, k):
        out[:, columns] = coder.decode(codes[:, columns].reshape(n, -1, size), some).reshape(n, -1)
    return out


def encoded_rows(weight: F32, choice: GroupScales, coder: Coder) -> np.ndarray:
    """Codes [n, K] nearest to tame weights [n, K]."""
    n, k = weight.shape
    found = [
        coder.encode(weight[:, columns].reshape(n, -1, size), some).reshape(n, -1)
        for columns, size, some in _parts(choice, coder.dtype, k)
    ]
    return np.concatenate(found, axis=1)


def _parts(choice: GroupScales, dtype: DType, k: int) -> Iterator[tuple[slice, int, GroupScales]]:
    """Columns of ``group_slices``, their group size, and the scales of their groups."""
    first = 0
    for columns, size in group_slices(dtype, k):
        last = first + (columns.stop - columns.start) // size
        zero = None if choice.zero is None else choice.zero[:, first:last]
        yield columns, size, GroupScales(choice.scale[:, first:last], zero)
        first = last


def joined(parts: list[GroupScales], axis: int) -> GroupScales:
    """Choices concatenated along an axis."""
    zeros = [part.zero for part in parts if part.zero is not None]
    zero = np.concatenate(zeros, axis) if zeros else None
    return GroupScales(np.concatenate([part.scale for part in parts], axis), zero)


def _round(weight: np.ndarray, dtype: DType, choose: Chooser) -> Rounded:
    n, k = weight.shape
    coder = Coder.of(dtype, weight)
    w = coder.tame(weight)
    if dtype.group == "tensor":
        one = w.reshape(1, 1, n * k)
        choice = choose(coder, one)
        return finished(coder.encode(one, choice).reshape(n, k), choice, coder, w)
    codes, choices, slices = [], [], group_slices(dtype, k)
    for rows in _row_slices(n, k):
        parts = [_part(w[rows, columns], size, coder, choose) for columns, size in slices]
        codes.append(np.concatenate([part[0] for part in parts], axis=1))
        choices.append(joined([part[1] for part in parts], axis=1))
    return finished(np.concatenate(codes), joined(choices, axis=0), coder, w)


def _part(w: F32, size: int, coder: Coder, choose: Chooser) -> tuple[np.ndarray, GroupScales]:
    """Codes [n, k] and scales [n, groups] of some rows, in groups of ``size``."""
    groups = w.reshape(len(w), -1, size)
    choice = choose(coder, groups)
    return coder.encode(groups, choice).reshape(w.shape), choice


def _row_slices(n: int, k: int) -> Iterator[slice]:
    rows = max(1, WEIGHTS_AT_A_TIME // k)
    return (slice(i, i + rows) for i in range(0, n, rows))


def _rows_of(choice: GroupScales, rows: slice) -> GroupScales:
    """The scales of some rows; a scale of the whole tensor is that of any row."""
    if len(choice.scale) == 1:
        return choice
    return GroupScales(choice.scale[rows], None if choice.zero is None else choice.zero[rows])
