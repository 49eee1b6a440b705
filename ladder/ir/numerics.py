"""The reference: these few lines fix the bits that every kernel must reproduce.

Shapes: M tokens, N out features, K in features, B K-blocks of ``block`` weights (the last one
may be short: it is padded with zeros, which change nothing). Codes are unsigned here:
``code = element + offset``, and ``zero`` is the unsigned code that means 0.0.

Integers are exact. Floats are float32, each operation rounded on its own, never contracted.
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
LEVELS = np.float32(127)
SMALLEST_SCALE = np.float32(2.0**-100)  # under it a block counts as zero: no denormals anywhere


def split_blocks(x: npt.NDArray[S], block: int) -> npt.NDArray[S]:
    """[..., K] -> [..., B, block padded to whole tables], zeros behind the end."""
    k = x.shape[-1]
    blocks = -(-k // block)
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    out = np.zeros((*x.shape[:-1], blocks, padded), x.dtype)
    for b in range(blocks):
        piece = x[..., b * block : (b + 1) * block]
        out[..., b, : piece.shape[-1]] = piece
    return out


def _scale_and_inverse(amax: F32) -> tuple[F32, F32]:
    scale = (amax / LEVELS).astype(np.float32)
    live = scale >= SMALLEST_SCALE
    safe = np.where(live, scale, np.float32(1))
    inverse = np.where(live, np.float32(1) / safe, np.float32(0)).astype(np.float32)
    return np.where(live, scale, np.float32(0)).astype(np.float32), inverse


def quantize_activation(x: F32, block: int) -> tuple[I8, F32, I32]:
    """Mode ``int8``: [M, K] -> codes [M, B, block], scale [M, B], sum of codes [M, B]."""
    blocks = split_blocks(x, block)
    scale, inverse = _scale_and_inverse(np.abs(blocks).max(-1))
    q = np.rint(blocks * inverse[..., None]).astype(np.int8)
    return q, scale, q.astype(np.int32).sum(-1, dtype=np.int32)


def precompute_table(x: F32, block: int) -> tuple[I8, F32, I32]:
    """Mode ``table8`` (T-MAC's quantized tables): one int8 table of 16 entries per 4 activations.

    Entry i of a table is ((±a0 ± a1) ± a2) ± a3 with + where bit j of i is set, rounded to int8
    with one scale per K-block. [M, K] -> tables [M, B, block/4, 16], half scale [M, B], sum of
    the all-plus entries [M, B]. The scale is halved because a code's bits are read as ±1:
    sum_b 2^(b-1) (±1) = code - (2^bits - 1) / 2.
    """
    a = split_blocks(x, block)
    a = a.reshape(*a.shape[:-1], -1, LUT_GROUP)
    size = np.abs(a[..., 0])
    for j in range(1, LUT_GROUP):
        size = size + np.abs(a[..., j])
    scale, inverse = _scale_and_inverse(size.max(-1))
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


def dot_sums(q: I8, total: I32, codes: U8, zero: I32, block: int) -> I32:
    """Exact block sums of mode ``int8``: [M, N, B] = sum_k q[m,k] (code[n,k] - zero[n,b])."""
    w = split_blocks(codes, block).astype(np.int32)
    raw = np.einsum("mbk,nbk->mnb", q.astype(np.int32), w, optimize=True)
    sums: I32 = (raw - zero[None] * total[:, None, :]).astype(np.int32)
    return sums


def lut_sums(table: I8, total: I32, indices: U8, zero: I32) -> I32:
    """Exact block sums of mode ``table8``: [M, N, B].

    sum_b 2^b sum_g T[index] + (2^bits - 1 - 2 zero) * total: twice the product in units of the
    table scale, which is why ``precompute_table`` halves that scale.
    """
    bits, n, blocks, groups = indices.shape
    out = np.zeros((table.shape[0], n, blocks), np.int32)
    b_axis, g_axis = np.arange(blocks)[:, None], np.arange(groups)[None]
    for m, rows in enumerate(table):
        for b in range(bits):
            looked_up = rows[b_axis, g_axis, indices[b]].astype(np.int32)
            out[m] += looked_up.sum(-1, dtype=np.int32) << b
    correction = np.int32((1 << bits) - 1) - np.int32(2) * zero
    return (out + correction[None] * total[:, None, :]).astype(np.int32)


def combine(sums: I32, weight_scale: F32, activation_scale: F32) -> F32:
    """Block sums [M, N, B] -> [M, N]: ascending blocks, multiply, multiply, then add."""
    m, n, blocks = sums.shape
    scale = np.broadcast_to(weight_scale, (n, blocks))
    out = np.zeros((m, n), np.float32)
    for b in range(blocks):
        product = sums[:, :, b].astype(np.float32) * scale[None, :, b]
        out = out + product * activation_scale[:, b, None]
    return out
