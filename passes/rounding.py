"""Rounding methods: [N, K] float32 -> codes, scales, zero points of a type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ladder.ir.dtype import DType
from ladder.ir.numerics import SMALLEST_SCALE

ROWS_AT_A_TIME = 1024  # keeps the search's temporaries in the cache
LARGEST_EXPONENT = 40
SHRINK = np.linspace(1.0, 0.5, 11, dtype=np.float32)


@dataclass(frozen=True)
class Rounded:
    """Codes [N, K] as the IR stores them (``Element.from_unsigned``).

    Scale and zero have the shape of ``DType.scale_shape``; the scale has its stored type
    (``dtype.SCALES``), the zero is uint8 or, for ``zpf``, of the scale's type. ``tensor_scale``
    is there for types that have one.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    relative_error: float
    tensor_scale: np.float32 | None = None


def rtn(weight: np.ndarray, dtype: DType) -> Rounded:
    """Round to nearest with the scale that spans the group."""
    return _round(weight, dtype, _span)


def mse(weight: np.ndarray, dtype: DType) -> Rounded:
    """Search each group's scale for the least squared weight error, then refit it to the codes.

    Symmetric types try both signs of the scale: the code range reaches one step further on its
    negative side, and a group's largest weight may lie on either.
    """
    return _round(weight, dtype, _search)


METHODS: dict[str, Callable[[np.ndarray, DType], Rounded]] = {"rtn": rtn, "mse": mse}

_Chooser = Callable[[np.ndarray, DType], tuple[np.ndarray, np.ndarray]]


def _round(weight: np.ndarray, dtype: DType, choose: _Chooser) -> Rounded:
    """In a range where squares neither overflow nor vanish: a power of two changes no code."""
    _, exponent = np.frexp(np.abs(weight).max())
    if abs(exponent) <= LARGEST_EXPONENT:
        return _round_tame(weight, dtype, choose)
    tame = _round_tame(np.ldexp(weight, -exponent), dtype, choose)
    return replace(tame, scale=np.ldexp(tame.scale, exponent))


def _round_tame(weight: np.ndarray, dtype: DType, choose: _Chooser) -> Rounded:
    n, k = weight.shape
    if dtype.group == "tensor":
        parts = [_round_rows(weight.reshape(1, -1), dtype, choose, n * k)]
        codes, scale, zero, error = _joined(parts)
        return _finished(codes.reshape(n, k), scale, zero, error, weight, dtype)
    size = dtype.group_size(k)
    parts = [
        _round_rows(weight[i : i + ROWS_AT_A_TIME], dtype, choose, size)
        for i in range(0, n, ROWS_AT_A_TIME)
    ]
    return _finished(*_joined(parts), weight, dtype)


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def _round_rows(weight: np.ndarray, dtype: DType, choose: _Chooser, size: int) -> _Part:
    """Codes [n, k], scale and zero [n, groups] and squared error of some rows."""
    n, k = weight.shape
    groups = -(-k // size)
    padded = np.zeros((n, groups * size), np.float32)
    padded[:, :k] = weight
    w = padded.reshape(n, groups, size)
    scale, zero = choose(w, dtype)
    codes = _codes(w, scale, zero, dtype)
    # A group of zeros, or one so small that its scale vanishes, is stored as zeros.
    error = float(
        np.square((codes - zero[..., None]) * scale[..., None] - w, dtype=np.float32).sum()
    )
    flat = codes.reshape(n, -1)[:, :k].astype(np.int16)
    return flat, scale, zero, error


def _codes(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, dtype: DType) -> np.ndarray:
    live = np.abs(scale) >= SMALLEST_SCALE
    inverse = np.where(live, np.float32(1) / np.where(live, scale, np.float32(1)), np.float32(0))
    codes = np.rint(w * inverse[..., None])
    codes += zero[..., None]
    clipped: np.ndarray = np.clip(codes, dtype.element.low, dtype.element.high, out=codes)
    return clipped


def _span(w: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    if dtype.zero_point:
        return _asymmetric(w.min(-1), w.max(-1), dtype)
    scale = np.abs(w).max(-1) / np.float32(dtype.element.high)
    return scale.astype(np.float32), np.zeros_like(scale)


def _asymmetric(low: np.ndarray, high: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = ((high - low) / np.float32(dtype.element.high)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = np.where(scale == 0, 0, np.rint(-low / scale)).astype(np.float32)
    return scale, np.clip(zero, 0, dtype.element.high)


def _search(w: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    best_scale, best_zero = _span(w, dtype)
    best = _error(w, best_scale, best_zero, dtype)
    for scale, zero in _candidates(w, dtype):
        error = _error(w, scale, zero, dtype)
        better = error < best
        best = np.where(better, error, best)
        best_scale = np.where(better, scale, best_scale)
        best_zero = np.where(better, zero, best_zero)
    return _refit(w, best_scale, best_zero, dtype), best_zero


def _candidates(w: np.ndarray, dtype: DType) -> list[tuple[np.ndarray, np.ndarray]]:
    shrink = SHRINK
    if dtype.zero_point:
        low, high = w.min(-1), w.max(-1)
        return [_asymmetric(low * s, high * s, dtype) for s in shrink[1:]]
    amax = np.abs(w).max(-1)
    zero = np.zeros_like(amax)
    reach = np.float32(-dtype.element.low)
    return [(amax * (sign * s / reach), zero) for s in shrink for sign in (1, -1)]


def _error(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, dtype: DType) -> np.ndarray:
    codes = _codes(w, scale, zero, dtype)
    codes -= zero[..., None]
    codes *= scale[..., None]
    codes -= w
    squares: np.ndarray = np.einsum("ngk,ngk->ng", codes, codes)
    return squares


def _refit(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, dtype: DType) -> np.ndarray:
    """The least-squares scale for the codes that were chosen."""
    q = _codes(w, scale, zero, dtype) - zero[..., None]
    above, below = np.einsum("ngk,ngk->ng", w, q), np.einsum("ngk,ngk->ng", q, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, scale, above / below).astype(np.float32)


def _joined(parts: list[_Part]) -> _Part:
    codes, scale, zero = (np.concatenate([p[i] for p in parts]) for i in range(3))
    return codes, scale, zero, sum(p[3] for p in parts)


def _finished(
    codes: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    error: float,
    weight: np.ndarray,
    dtype: DType,
) -> Rounded:
    power = float(np.square(weight, dtype=np.float32).sum())
    relative = (error / power) ** 0.5 if power > 0 else 0.0
    kept = zero.astype(np.uint8) if dtype.zero_point else None
    byte = np.int8 if dtype.element.signed else np.uint8
    return Rounded(codes.astype(byte), scale, kept, relative)
