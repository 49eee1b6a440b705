"""Outlier channels in integers: the reference for ``MuxActivation`` and ``MuxGemm``.

A few channels of an activation are far larger than the others. Their integers are split into
digits: the lowest digit stays in its place in ``body``, and the higher ones are in ``aux``, which
multiplies the same quantized weights once more. With f = ``Mux.factor``

    X = body + f aux_1 (+ f^2 aux_2)           integers of one scale
    X W = body W + f (aux_1 W_o (+ f aux_2 W_o))      W_o: the weights of the outlier channels

- ``digits``: X is rounded with the scale of the ordinary channels and written in base f = 2^E.
- ``muxq`` (Lee, Kim, Kim, arXiv 2604.04701): body = aux = round(x / 2^e), f = 2^e - 1. Here both
  have one scale, so that an integer factor combines them.

Shapes are as in ``ladder.ir.numerics``, with O outlier channels and D digits in ``aux``, lowest
first.
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
EXACT_FLOAT = 1 << 24  # integers up to this are exact in float32


@dataclass(frozen=True)
class Mux:
    """How outliers are written: ``digits7`` (base 2^7), ``digits4x2`` (two in aux), ``muxq2``."""

    method: str
    exponent: int
    digits: int = 1

    @staticmethod
    def parse(text: str) -> Mux:
        """Undo ``str``, or raise a ``LadderError``."""
        found = re.fullmatch(r"(digits|muxq)([1-9]\d*)(?:x([1-9]\d*))?", text)
        if found is None or (found[1] == MUXQ and found[3]):
            raise LadderError(f"unknown mux '{text}'; write for example digits7, digits4x2, muxq2")
        return Mux(found[1], int(found[2]), int(found[3] or 1))

    def __str__(self) -> str:
        return f"{self.method}{self.exponent}" + (f"x{self.digits}" if self.digits > 1 else "")

    @property
    def factor(self) -> int:
        """The weight of a digit of ``aux`` relative to the digit below it."""
        return (1 << self.exponent) - (self.method == MUXQ)

    @property
    def reach(self) -> int:
        """The largest outlier in range, as a multiple of the largest ordinary value."""
        return 1 << self.exponent * self.digits

    def extra(self, dtype: DType, k: int, channels: Sequence[int]) -> float:
        """The extra cost of outliers: their chunks of weights, relative to the chunks of K.

        That much more is stored and read, since the outliers of a scale block take whole chunks. It
        is 0 for types that are not muxed. Types with groups have several scale blocks along K,
        others one, as for activation scales per token or tensor, which are usual with outliers.
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
        """Why a site with these activations and weights cannot be muxed, or None."""
        if mode not in QUANTIZED:
            return f"{mode} activations have no integer codes for outliers"
        if dtype.levels:
            return f"{dtype.name} is a code book: only integer weights are muxed"
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

    Dynamic scales represent every outlier. A ``static`` scale clips ordinary values at the largest
    code, and outliers at ``reach`` times that.
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
    """The integers without the lowest digit, in units of the next one; ties to even."""
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
    """Block sums [M, N, B] of X (step code - zero), like those of q in ``numerics.dot_sums``."""
    whole = body.astype(np.int32)
    for d in range(mux.digits):
        digit = np.zeros((len(body), codes.shape[1]), np.int32)
        digit[:, channels] = aux[:, d]
        whole += numerics.split_blocks(digit, block) * np.int32(mux.factor ** (d + 1))
    return numerics.dot_sums(whole, total, codes, zero, block, step)
