"""Integer-dot GEMM for AVX-512 VNNI: many tokens against the same planes.

The codes of a (row tile, K-block) are unpacked once into bytes, four neighbours along K to a
dword, then ``vpdpbusd`` multiplies them with the int8 activations of 4 tokens at a time.
Arguments as in ``common``, but the first is ``q`` int8 [M, C, 16].
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.avx512 import dot_bytes
from ladder.codegen.kernels.common import VECTORS, combine, store, trimmed
from ladder.codegen.kernels.vector import Expr, lanes, llvm, splat
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.numerics import LUT_GROUP

TOKENS = 4  # whose sums stay in registers together
PANEL = 64  # tokens that share one unpacking
GROUPS = CHUNK // LUT_GROUP


def _spread(bit: int) -> Expr:
    """Entry e: byte i is bit i of e, at place ``bit``; int32 [16], folded to a constant."""
    entry = T.ramp(T.uint32(0), T.uint32(1), LANES)
    out = None
    for i in range(LUT_GROUP):
        one = T.bitwise_and(entry, splat(T.uint32(1 << i), LANES))
        moved = T.shift_left(one, splat(T.uint32(7 * i + bit), LANES))
        out = moved if out is None else T.bitwise_or(out, moved)
    return T.reinterpret(out, dtype="int32x16")


def _codes(planes: Any, tile: Expr, chunk: Expr, v: Expr, shift: Expr, bits: int) -> Expr:
    """The codes of one K-group for 16 rows, four bytes to a dword, int32 [16]."""
    out = None
    for bit in range(bits):
        index = T.shift_right(planes[tile, chunk, bit, v, lanes(0)], splat(shift, LANES))
        part = llvm("x86.avx512.permvar.si.512", "int32x16", _spread(bit), index)
        out = part if out is None else T.bitwise_or(out, part)
    return out


def _unpack(bits: int) -> Any:
    @T.inline
    def unpack(codes, planes, tile, chunk, at):  # type: ignore[no-untyped-def]
        for v in T.unroll(2):
            for j in T.unroll(GROUPS):
                for high in T.unroll(2):
                    place = T.meta_var(((at * GROUPS + j) * VECTORS + v * 2 + high) * LANES)
                    shift = T.meta_var(T.cast(j * 8 + high * 4, "int32"))
                    codes[lanes(place)] = _codes(planes, tile, chunk, v, shift, bits)

    return unpack


@T.inline
def _multiply(sums, codes, q, m, first, count):  # type: ignore[no-untyped-def]
    for v in T.unroll(TOKENS * VECTORS):
        sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
    for i in T.serial(count):
        for j in T.unroll(GROUPS):
            for t in T.unroll(TOKENS):
                for v in T.unroll(VECTORS):
                    token = T.meta_var(T.min(m + t, q.shape[0] - 1))
                    four = T.meta_var(q[token, first + i, T.ramp(j * LUT_GROUP, 1, LUT_GROUP)])
                    four_rows = T.meta_var(splat(T.reinterpret(four, dtype="int32"), LANES))
                    place = T.meta_var(((i * GROUPS + j) * VECTORS + v) * LANES)
                    at = T.meta_var(lanes((t * VECTORS + v) * LANES))
                    sums[at] = dot_bytes(
                        sums[at],
                        T.reinterpret(codes[lanes(place)], dtype="int8x64"),
                        T.reinterpret(four_rows, dtype="int8x64"),
                    )


def dot_gemm(packing: Packing) -> Any:
    """The product of mode ``int8`` by integer dot products."""
    name = f"dot_gemm_avx512_int8_{packing}"
    bits, chunks = packing.bits, packing.chunks
    unpack, add_block = _unpack(bits), combine(packing, "int8")

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(q_: T.handle, a_scale_: T.handle, a_total_: T.handle, planes_: T.handle,  # type: ignore[no-untyped-def]
               w_scale_: T.handle, zero_: T.handle, out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, N, B, C, S, NT = T.int64(), T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
        q = T.match_buffer(q_, (M, C, CHUNK), "int8")
        a_scale = T.match_buffer(a_scale_, (M, B), "float32")
        a_total = T.match_buffer(a_total_, (M, B), "int32")
        planes = T.match_buffer(planes_, (NT, C, bits, 2, LANES), "int32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), "float32")
        zero = T.match_buffer(zero_, (NT, S, TILE), "uint8")
        out = T.match_buffer(out_, (M, N), "float32")
        for tile in T.parallel(NT):
            codes = T.alloc_buffer((chunks * CHUNK * TILE // 4,), "int32", scope="local")
            result = T.alloc_buffer((PANEL * TILE,), "float32", scope="local")
            for panel in T.serial(T.ceildiv(M, PANEL)):
                quads = T.meta_var(T.ceildiv(T.min(T.int64(PANEL), M - panel * PANEL), TOKENS))
                for i in T.serial(quads * TOKENS * VECTORS):
                    result[lanes(i * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(B):
                    first = T.meta_var(block * chunks)
                    count = T.meta_var(T.min(T.int64(chunks), C - first))
                    for i in T.serial(count):
                        unpack(codes, planes, tile, first + i, i)
                    for quad in T.serial(quads):
                        sums = T.alloc_buffer((TOKENS * TILE,), "int32", scope="local")
                        _multiply(sums, codes, q, panel * PANEL + quad * TOKENS, first, count)
                        for t in T.unroll(TOKENS):
                            m = T.meta_var(T.min(panel * PANEL + quad * TOKENS + t, M - 1))
                            add_block(result, (quad * TOKENS + t) * TILE, sums, t * TILE, tile,
                                      block, w_scale, zero, a_scale[m, block], a_total[m, block])
                for t in T.serial(T.min(T.int64(PANEL), M - panel * PANEL)):
                    store(out, panel * PANEL + t, tile, result, t * TILE)

    return trimmed(kernel, packing)
