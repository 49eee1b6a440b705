"""Outlier channels in integers: the reference of ``MuxActivation`` and ``MuxGemm``.

A few channels of an activation are far larger than the others. Their integers are cut into
digits: the lowest stays in its place in ``body``, the higher ones go to ``aux``, which multiplies
the same quantized weights once more. With f = ``Mux.factor``

    X = body + f aux_1 (+ f^2 aux_2)           integers of one scale
    X W = body W + f (aux_1 W_o (+ f aux_2 W_o))      W_o: the weights of the outlier channels

- ``digits``: X is rounded in the step of the ordinary channels and written in base f = 2^E.
- ``muxq`` (Lee, Kim, Kim, arXiv 2604.04701): body = aux = round(x / 2^e), f = 2^e - 1. Here with
  one scale for both, so that only an integer joins them.

Shapes as in ``ladder.ir.numerics``; O outlier channels, D digits in ``aux``, lowest first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.errors import LadderError
from ladder.ir import numerics, rungs
from ladder.ir.activation import QUANTIZED
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32, I8, I32, U8
from ladder.ir.storage import CHUNK

DIGITS, MUXQ = "digits", "muxq"
METHODS = (DIGITS, MUXQ)
I64 = npt.NDArray[np.int64]
EXACT_FLOAT = 1 << 24  # integers up to here are exact in float32


@dataclass(frozen=True)
class Mux:
    """How outliers are written: ``digits7`` (base 2^7), ``digits4x2`` (two in aux), ``muxq2``."""

    method: str
    exponent: int
    digits: int = 1

    @staticmethod
    def parse(text: str) -> Mux:
        """Undo ``str``, or a ``LadderError``."""
        found = re.fullmatch(r"(digits|muxq)([1-9]\d*)(?:x([1-9]\d*))?", text)
        if found is None or (found[1] == MUXQ and found[3]):
            raise LadderError(f"unknown mux '{text}'; write for example digits7, digits4x2, muxq2")
        return Mux(found[1], int(found[2]), int(found[3] or 1))

    def __str__(self) -> str:
        return f"{self.method}{self.exponent}" + (f"x{self.digits}" if self.digits > 1 else "")

    @property
    def factor(self) -> int:
        """What a digit of ``aux`` counts more than the one below it."""
        return (1 << self.exponent) - (self.method == MUXQ)

    @property
    def reach(self) -> int:
        """How many times the largest ordinary value an outlier may have without loss of range."""
        return 1 << self.exponent * self.digits

    def extra(self, dtype: DType, k: int, channels: Sequence[int]) -> float:
        """What these outliers add to a product: chunks of weights over those of all of K.

        That much more is stored and read; a block's outliers take whole chunks. 0 for types that
        are not muxed. Types with groups along K have blocks of their own, others all of K: so
        with scales by token or tensor, the rule where there are outliers.
        """
        if self.refuse("int8:token", dtype, k, len(channels)) is not None:
            return 0.0
        block = dtype.block if isinstance(dtype.group, int) else k
        wide = CHUNK * dtype.element.storage.unit_chunks
        counts = np.bincount(np.array(channels, np.int64) // block)
        more = int((-(-counts // wide)).sum()) * wide * self.digits
        _rows, whole = rungs.padded_shape(dtype, 1, k)
        return more / whole

    def refuse(self, mode: str, dtype: DType, k: int, outliers: int) -> str | None:
        """Why a site with these activations and weights cannot have it, or None."""
        if mode not in QUANTIZED:
            return f"{mode} activations have no codes to write outliers in"
        if dtype.levels:
            return f"{dtype.name} names the entries of a book: only integer weights are muxed"
        if dtype.element.storage.per_byte and isinstance(dtype.group, int):
            return f"five digits of {dtype.name} share a byte across groups; use {dtype.name}:row"
        levels = int(QUANTIZED[mode].levels)
        if self.method == DIGITS and self.factor > 2 * levels:
            return f"a low digit of {self} does not fit {mode}: at most 2^E = {2 * levels}"
        if levels * self.reach >= EXACT_FLOAT:
            return f"{self} needs integers beyond 2^24"
        largest = dtype.element.step * ((1 << dtype.bits) - 1)
        if levels * (k - outliers + self.reach * outliers) * largest >= 1 << 31:
            return f"{outliers} outliers of {self} could overflow an int32 sum"
        return None


def mux_activation(
    x: F32,
    channels: I64,
    mux: Mux,
    block: int,
    bits: int = 8,
    granularity: str = "token",
    static: np.float32 | None = None,
) -> tuple[I8, I8, F32, I32]:
    """x [M, K] -> body [M, B, block], aux [M, D, O], scale [M, B], sum of X [M, B].

    Dynamic scales hold every outlier; a ``static`` one clips ordinary values at the largest code
    and outliers at ``reach`` times that.
    """
    k, levels = x.shape[1], numerics.ACTIVATION_LEVELS[bits]
    outlier = np.isin(np.arange(k), channels)
    small = np.where(outlier, np.float32(1 / mux.reach), np.float32(1))
    amax = np.abs(numerics.split_blocks(x * small, block)).max(-1)
    scale, inverse = numerics.shared_scale(amax, levels, granularity, static)
    value = (x * small if mux.method == MUXQ else x) * np.repeat(inverse, block, 1)[:, :k]
    if static is not None:
        limit = np.where(outlier & (mux.method == DIGITS), levels * np.float32(mux.reach), levels)
        value = np.clip(value, -limit, limit)
    whole = np.rint(value)
    aux = _aux(whole[:, channels], mux)
    body = whole.copy()
    if mux.method == DIGITS:
        body[:, channels] -= np.float32(mux.factor) * _higher(whole[:, channels], mux)
    else:
        whole[:, channels] *= np.float32(mux.reach)
    total = numerics.split_blocks(whole.astype(np.int32), block).sum(-1, dtype=np.int32)
    return numerics.split_blocks(body.astype(np.int8), block), aux, scale, total


def _higher(whole: F32, mux: Mux) -> F32:
    """What is left when the lowest digit is taken off, in its own units; ties to even."""
    higher: F32 = np.rint(whole * np.float32(1 / mux.factor))
    return higher


def _aux(whole: F32, mux: Mux) -> I8:
    """Integers of the outliers [M, O] -> digits [M, D, O]."""
    if mux.method == MUXQ:
        return whole.astype(np.int8)[:, None]
    parts, rest = [], _higher(whole, mux)
    for _ in range(mux.digits - 1):
        higher = _higher(rest, mux)
        parts.append(rest - np.float32(mux.factor) * higher)
        rest = higher
    return np.stack([*parts, rest], 1).astype(np.int8)


def mux_sums(
    body: I8, aux: I8, total: I32, channels: I64, mux: Mux, codes: U8, zero: I32 | F32,
    block: int, step: int = 1,
) -> I32 | F32:  # fmt: skip
    """Block sums [M, N, B] of X (step code - zero), as ``numerics.dot_sums`` has those of q."""
    whole = body.astype(np.int32)
    for d in range(mux.digits):
        digit = np.zeros((len(body), codes.shape[1]), np.int32)
        digit[:, channels] = aux[:, d]
        whole += numerics.split_blocks(digit, block) * np.int32(mux.factor ** (d + 1))
    return numerics.dot_sums(whole, total, codes, zero, block, step)
