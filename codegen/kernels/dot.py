"""Integer-dot GEMM of every family: codes unpacked to bytes, multiplied with int8 activations.

The codes of a (row tile, K-block) are unpacked once for a panel of tokens, to quads: four bytes
in a dword. A code book's codes become its digits there. Then ``multiply`` adds the products of a
quad for 16 rows, 4 tokens at a time. Arguments: ``common``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import (
    VECTORS,
    combine,
    fetch_ahead,
    read_rows,
    store,
    trimmed,
    zero_rows_type,
)
from ladder.codegen.kernels.unpack import unpack
from ladder.codegen.kernels.vector import Expr, lanes, splat
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.numerics import LUT_GROUP

TOKENS = 4  # whose sums stay in registers together
PANEL = 64  # tokens that share one unpacking
QUADS = CHUNK // LUT_GROUP
WORDS = QUADS * TILE  # dwords of an unpacked chunk

Multiply = Callable[[Expr, Expr, Expr], Expr]
LookUp = Callable[[Any, Expr, int, Expr], Expr]


def _unpack_chunk(packing: Packing, look_up: LookUp, loop: Any) -> Any:
    """Emits the bytes of one chunk to ``codes``: [D, ``size`` dwords], from ``at`` on."""
    read, parts, entries = unpack(packing), max(packing.digits, 1), packing.entries
    ahead, bits, book = not packing.trits, packing.bits, packing.digits > 0

    @T.inline
    def emit(codes, state, planes, digits, tile, chunk, at, size):  # type: ignore[no-untyped-def]
        if ahead:
            for line in T.unroll(bits):
                fetch_ahead(planes, tile, chunk, line, 0)
        for step in T.unroll(read.steps):
            quads = T.alloc_buffer((read.vectors * LANES,), "int32")
            read.emit(quads, state, planes, tile, chunk, step)
            for n in loop(read.vectors):
                for d in T.unroll(parts):
                    quad = T.meta_var(quads[lanes(n * LANES)])
                    place = T.meta_var(d * size + at + read.place(step, n))
                    codes[lanes(place)] = look_up(digits, d, entries, quad) if book else quad

    return emit


def _add_products(multiply: Multiply, count: int) -> Any:
    """Emits sums [count, 64] int32 of ``chunks`` chunks of codes, for tokens from ``m`` on."""

    @T.inline
    def emit(sums, codes, at, q, m, first, chunks):  # type: ignore[no-untyped-def]
        for v in T.unroll(count * VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for i in T.serial(chunks):
            for j in T.unroll(QUADS):
                for t in T.unroll(count):
                    for v in T.unroll(VECTORS):
                        four = T.meta_var(q[m + t, first + i, T.ramp(j * LUT_GROUP, 1, LUT_GROUP)])
                        row = T.meta_var(lanes((t * VECTORS + v) * LANES))
                        code = T.meta_var(codes[lanes(at + (i * QUADS + j) * TILE + v * LANES)])
                        sums[row] = multiply(sums[row], code, T.reinterpret(four, dtype="int32"))

    return emit


def _add_tokens(packing: Packing, multiply: Multiply, count: int, size: int) -> Any:
    """Emits one block of ``count`` tokens into their float results, from ``first_sum`` on."""
    products, add_block = _add_products(multiply, count), combine(packing, "int8")
    digits, book = packing.digits, packing.digits > 0

    @T.inline
    def emit(result, place, codes, q, a_scale, a_total, m, block, first, chunks, scales, zeros):  # type: ignore[no-untyped-def]
        sums = T.alloc_buffer((count * TILE,), "int32")
        whole = T.alloc_buffer((count * TILE,), "float32")
        if book:
            for d in T.unroll(digits):
                products(sums, codes, (digits - 1 - d) * size, q, m, first, chunks)
                for i in T.unroll(count * VECTORS):
                    at = T.meta_var(lanes(i * LANES))
                    offset = T.meta_var(T.int32(DIGIT_OFFSET) * a_total[m + i // VECTORS, block])
                    part = T.meta_var(T.cast(sums[at] - splat(offset, LANES), "float32x16"))
                    # The product is exact: that it may be fused changes nothing.
                    if d == 0:
                        whole[at] = part
                    else:
                        whole[at] = whole[at] * splat(T.float32(256), LANES) + part
        else:
            products(sums, codes, 0, q, m, first, chunks)
        for t in T.unroll(count):
            add_block(result, (place + t) * TILE, whole if book else sums, t * TILE, scales,
                      zeros, a_scale[m + t, block], a_total[m + t, block])  # fmt: skip

    return emit


def dot_gemm(
    family: str, packing: Packing, multiply: Multiply, look_up: LookUp, loop: Any = T.unroll
) -> Any:
    """The product of activation codes by integer dot products.

    ``multiply(sums, quads, four)``: int32 [16] sums plus the products of unsigned bytes (four to
    a dword, [16]) with the four int8 of ``four``. ``look_up(digits, d, entries, quads)``: every
    byte replaced by that entry of row d; ``loop`` goes over look-ups.
    """
    name = f"dot_gemm_{family}_{packing}"
    bits, chunks = packing.bits, packing.chunks
    parts, entries, size = max(packing.digits, 1), packing.entries, chunks * WORDS
    scale_type, zero_type = packing.scale_type, packing.zero_type
    zeros_type = zero_rows_type(packing)
    unpack_chunk, rows = _unpack_chunk(packing, look_up, loop), read_rows(packing, "int8")
    add_four = _add_tokens(packing, multiply, TOKENS, size)
    add_one = _add_tokens(packing, multiply, 1, size)

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(q_: T.handle, a_scale_: T.handle, a_total_: T.handle, planes_: T.handle,  # type: ignore[no-untyped-def]
               digits_: T.handle, w_scale_: T.handle, zero_: T.handle, factor_: T.handle,
               out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, N, B, C, P = T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
        S, NT = T.int64(), T.int64()
        q = T.match_buffer(q_, (M, C, CHUNK), "int8")
        a_scale = T.match_buffer(a_scale_, (M, B), "float32")
        a_total = T.match_buffer(a_total_, (M, B), "int32")
        planes = T.match_buffer(planes_, (NT, P, bits, 2, LANES), "int32")
        digits = T.match_buffer(digits_, (parts, entries), "uint8")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), scale_type)
        zero = T.match_buffer(zero_, (NT, S, TILE), zero_type)
        factor = T.match_buffer(factor_, (1,), "float32")
        out = T.match_buffer(out_, (M, N), "float32")
        for tile in T.parallel(NT):
            codes = T.alloc_buffer((parts * size,), "int32")
            result = T.alloc_buffer((PANEL * TILE,), "float32")
            state = T.alloc_buffer((2 * TILE,), "int32")
            scales = T.alloc_buffer((TILE,), "float32")
            zeros = T.alloc_buffer((TILE,), zeros_type)
            for panel in T.serial(T.ceildiv(M, PANEL)):
                m = T.meta_var(panel * PANEL)
                tokens = T.meta_var(T.min(T.int64(PANEL), M - m))
                for i in T.serial(tokens * VECTORS):
                    result[lanes(i * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(B):
                    first = T.meta_var(block * chunks)
                    count = T.meta_var(T.min(T.int64(chunks), C - first))
                    for i in T.serial(count):
                        unpack_chunk(codes, state, planes, digits, tile, first + i, i * WORDS, size)
                    rows(scales, zeros, w_scale, zero, factor, tile, block)
                    for four in T.serial(tokens // TOKENS):
                        add_four(result, four * TOKENS, codes, q, a_scale, a_total,
                                 m + four * TOKENS, block, first, count, scales, zeros)
                    for t in T.serial(tokens % TOKENS):
                        one = T.meta_var(tokens // TOKENS * TOKENS + t)
                        add_one(result, one, codes, q, a_scale, a_total,
                                m + one, block, first, count, scales, zeros)
                for t in T.serial(tokens):
                    store(out, m + t, tile, result, t * TILE)

    return trimmed(kernel, packing)
