"""The reference: this file fixes the bits that every kernel must reproduce.

Shapes: M tokens, N out features, K in features, B scale blocks of ``block`` weights (the last one
may be short; it is padded with zeros, which change nothing). Codes are unsigned here. If the
element is an integer, ``value = step * code - zero``, where ``zero`` is the element's offset or the
stored zero point, an integer or a float. A weight is its value times its scale, or, in types with a
minimum, ``code * scale + minimum``. A code book is represented by digits, see
``ladder.ir.element.Levels``.

Integers are exact. Floats are float32; each operation is rounded separately, never contracted.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]
S = TypeVar("S", bound=np.generic)

LUT_GROUP = 4  # activations per table (g in T-MAC, EuroSys'25)
ACTIVATION_LEVELS = {b: np.float32((1 << b - 1) - 1) for b in (8, 7, 6, 5, 4, 2)}  # by bits
DIGIT_OFFSET = np.int32(128)
SMALLEST_SCALE = np.float32(2.0**-100)  # below it a block counts as zero, to avoid denormals


def split_blocks(x: npt.NDArray[S], block: int) -> npt.NDArray[S]:
    """[..., K] -> [..., B, block padded to whole tables], padded with zeros."""
    k = x.shape[-1]
    blocks = -(-k // block)
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    out = np.zeros((*x.shape[:-1], blocks, padded), x.dtype)
    for b in range(blocks):
        piece = x[..., b * block : (b + 1) * block]
        out[..., b, : piece.shape[-1]] = piece
    return out


def _scale_and_inverse(amax: F32, levels: np.float32) -> tuple[F32, F32]:
    scale = (amax / levels).astype(np.float32)
    live = scale >= SMALLEST_SCALE
    safe = np.where(live, scale, np.float32(1))
    inverse = np.where(live, np.float32(1) / safe, np.float32(0)).astype(np.float32)
    return np.where(live, scale, np.float32(0)).astype(np.float32), inverse


def shared_scale(
    amax: F32, levels: np.float32, granularity: str, static: np.float32 | None = None
) -> tuple[F32, F32]:
    """Scale and inverse [M, B] from the largest magnitudes [M, B] of the scale blocks.

    ``granularity`` says what shares a scale (``ladder.ir.activation``). Shared scales are repeated
    for every scale block.
    """
    if granularity == "static":
        assert static is not None
        amax, levels = np.full_like(amax, static), np.float32(1)
    elif granularity != "block":
        over = -1 if granularity == "token" else None
        amax = np.broadcast_to(amax.max(over, keepdims=True), amax.shape)
    return _scale_and_inverse(amax, levels)


def quantize_activation(
    x: F32,
    block: int,
    bits: int = 8,
    granularity: str = "block",
    static: np.float32 | None = None,
) -> tuple[I8, F32, I32]:
    """Integer modes: codes [M, B, block], scale [M, B], sum of codes [M, B].

    Rounding is symmetric. A dynamic scale maps the largest magnitude to the largest code. A
    ``static`` scale is given, and larger codes are clipped.
    """
    blocks, levels = split_blocks(x, block), ACTIVATION_LEVELS[bits]
    scale, inverse = shared_scale(np.abs(blocks).max(-1), levels, granularity, static)
    value = blocks * inverse[..., None]
    if static is not None:
        value = np.clip(value, -levels, levels)
    q = np.rint(value).astype(np.int8)
    return q, scale, q.astype(np.int32).sum(-1, dtype=np.int32)


def precompute_table(x: F32, block: int) -> tuple[I8, F32, I32]:
    """Mode ``table8`` (T-MAC's quantized tables): one int8 table of 16 entries per 4 activations.

    Entry i of a table is ((±a0 ± a1) ± a2) ± a3 with + where bit j of i is set, rounded to int8
    with one scale per scale block. [M, K] -> tables [M, B, block/4, 16], half scale [M, B], sum of
    the all-plus entries [M, B]. The scale is halved because a code's bits are read as ±1:
    sum_b 2^(b-1) (±1) = code - (2^bits - 1) / 2.
    """
    a = split_blocks(x, block)
    a = a.reshape(*a.shape[:-1], -1, LUT_GROUP)
    size = np.abs(a[..., 0])
    for j in range(1, LUT_GROUP):
        size = size + np.abs(a[..., j])
    scale, inverse = _scale_and_inverse(size.max(-1), ACTIVATION_LEVELS[8])
    entry = np.arange(1 << LUT_GROUP)
    value = np.zeros((*a.shape[:-1], len(entry)), np.float32)
    for j in range(LUT_GROUP):
        sign = np.where(entry >> j & 1, np.float32(1), np.float32(-1))
        value = a[..., j, None] * sign if j == 0 else value + a[..., j, None] * sign
    table = np.rint(value * inverse[..., None, None]).astype(np.int8)
    total = table[..., -1].astype(np.int32).sum(-1, dtype=np.int32)
    return table, scale * np.float32(0.5), total


def table_indices(codes: U8, bits: int, block: int) -> U8:
    """Bit planes as table indices: codes [N, K] -> [bits, N, B, block/4], values 0..15."""
    blocks = split_blocks(codes, block)
    groups = blocks.reshape(*blocks.shape[:-1], -1, LUT_GROUP)
    planes = [sum(((groups[..., j] >> b) & 1) << j for j in range(LUT_GROUP)) for b in range(bits)]
    return np.stack(planes).astype(np.uint8)


def dot_sums(
    q: I8 | I32, total: I32, codes: U8, zero: I32 | F32, block: int, step: int = 1
) -> I32 | F32:
    """Block sums [M, N, B] = sum_k q[m,k] (step * code[n,k] - zero[n,b]).

    The sums are exact integers; with a float zero they are float32: raw - zero * total.
    """
    return _minus_zero(_raw(q, codes, block) * np.int32(step), total, zero)


def book_sums(q: I8, total: I32, codes: U8, digits: U8, block: int) -> F32:
    """Block sums [M, N, B] of a code book, in its unit: digits [D, 2^bits].

    The sums of each digit are exact. Starting with the highest digit, the result so far is
    multiplied by 256 and the next sum is added.
    """
    parts = [_raw(q, digit[codes], block) - DIGIT_OFFSET * total[:, None, :] for digit in digits]
    whole = parts[-1].astype(np.float32)
    for part in parts[-2::-1]:
        whole = whole * np.float32(256) + part.astype(np.float32)
    return whole


def _raw(q: I8 | I32, codes: U8, block: int) -> I32:
    w = split_blocks(codes, block).astype(np.int32)
    raw: I32 = np.einsum("mbk,nbk->mnb", q.astype(np.int32), w, optimize=True)
    return raw


def _minus_zero(raw: I32, total: I32, zero: I32 | F32) -> I32 | F32:
    if zero.dtype == np.float32:
        shift = zero[None].astype(np.float32) * total[:, None, :].astype(np.float32)
        return raw.astype(np.float32) - shift
    sums: I32 = (raw - zero[None] * total[:, None, :]).astype(np.int32)
    return sums


def lut_sums(table: I8, total: I32, indices: U8, zero: I32 | F32, step: int = 1) -> I32 | F32:
    """Block sums of mode ``table8``: [M, N, B].

    step (sum_b 2^b sum_g T[index] + (2^bits - 1) total) - 2 zero total: twice the product in
    units of the table scale, which is why ``precompute_table`` halves that scale.
    """
    bits, n, blocks, groups = indices.shape
    out = np.zeros((table.shape[0], n, blocks), np.int32)
    b_axis, g_axis = np.arange(blocks)[:, None], np.arange(groups)[None]
    for m, rows in enumerate(table):
        for b in range(bits):
            looked_up = rows[b_axis, g_axis, indices[b]].astype(np.int32)
            out[m] += looked_up.sum(-1, dtype=np.int32) << b
    raw = (out + np.int32((1 << bits) - 1) * total[:, None, :]) * np.int32(step)
    return _minus_zero(raw, total, zero * zero.dtype.type(2))


def stored_scale(scale: npt.NDArray[np.generic], factor: np.float32) -> F32:
    """Scales of any type as float32, times the unit of a code book and the tensor scale."""
    wide: F32 = scale.astype(np.float32) * factor
    return wide


def shift_of_minimum(minimum: F32, total: I32, doubled: bool = False) -> F32:
    """What a minimum [N, B] adds to the scaled block sums [M, N, B]; ``doubled`` in ``table8``."""
    shift: F32 = (minimum * np.float32(1 + doubled))[None] * total[:, None, :].astype(np.float32)
    return shift


def combine(
    sums: I32 | F32, weight_scale: F32, activation_scale: F32, shift: F32 | None = None
) -> F32:
    """Block sums [M, N, B] -> [M, N]: for ascending blocks, multiply, multiply, then add.

    ``shift`` is added between the two products.
    """
    m, n, blocks = sums.shape
    scale = np.broadcast_to(weight_scale, (n, blocks))
    out = np.zeros((m, n), np.float32)
    for b in range(blocks):
        product = sums[:, :, b].astype(np.float32) * scale[None, :, b]
        product = product if shift is None else product + shift[:, :, b]
        out = out + product * activation_scale[:, b, None]
    return out
