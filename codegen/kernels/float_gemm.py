"""The product with float activations: weights decoded in registers. Any type, any target.

The fallback scheme: slower than the integer ones, but nothing is rounded beside the weights.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import store, trimmed
from ladder.codegen.kernels.vector import Expr, lanes, splat
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing

GROUPS, PER_GROUP = 4, 4  # of one chunk: its tables, and the weights of a table


def _codes(planes: Any, tile: Expr, chunk: Expr, bits: int, vector: int, place: int) -> Expr:
    """Codes of 16 rows for weight ``place`` of a chunk, int32x16 (``vector``: which 16 rows)."""
    shift = 8 * (place // PER_GROUP) + 4 * (vector % 2) + place % PER_GROUP
    code = None
    for bit in range(bits):
        word = planes[tile, chunk, bit, vector // 2, lanes(0)]
        one = T.bitwise_and(
            T.shift_right(word, splat(T.int32(shift), LANES)), splat(T.int32(1), LANES)
        )
        placed = T.shift_left(one, splat(T.int32(bit), LANES))
        code = placed if code is None else T.bitwise_or(code, placed)
    return code


def float_gemm(packing: Packing) -> Any:
    """(x float32 [M, K], planes, w_scale[, zero], out float32 [M, N]).

    A block's sum of x * (code - zero) is multiplied by the weight scale and added, blocks in
    ascending order.
    """
    name = f"float_gemm_{packing}"
    bits, block_size, chunks, grouped = packing.bits, packing.block, packing.chunks, packing.grouped

    @T.inline
    def add_weight(sums, x, planes, base, m, tile, chunk, k, vector, place):  # type: ignore[no-untyped-def]
        code = T.meta_var(_codes(planes, tile, chunk, bits, vector, place))
        row = T.meta_var(lanes(vector * LANES))
        value = T.meta_var(T.cast(code, "float32x16") - base[row])
        sums[row] = sums[row] + splat(x[m, k], LANES) * value

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, planes_: T.handle, w_scale_: T.handle, zero_: T.handle,  # type: ignore[no-untyped-def]
               out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, N, K, C, S, NT = T.int64(), T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
        x = T.match_buffer(x_, (M, K), "float32")
        planes = T.match_buffer(planes_, (NT, C, bits, 2, LANES), "int32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), "float32")
        zero = T.match_buffer(zero_, (NT, S, TILE), "uint8")
        out = T.match_buffer(out_, (M, N), "float32")
        for tile in T.parallel(NT):
            for m in T.serial(M):
                result = T.alloc_buffer((TILE,), "float32", scope="local")
                sums = T.alloc_buffer((TILE,), "float32", scope="local")
                base = T.alloc_buffer((TILE,), "float32", scope="local")
                for v in T.unroll(TILE // LANES):
                    result[lanes(v * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(T.ceildiv(K, block_size)):
                    at = T.meta_var(block if grouped else T.int64(0))
                    for v in T.unroll(TILE // LANES):
                        row = T.meta_var(lanes(v * LANES))
                        sums[row] = splat(T.float32(0), LANES)
                        base[row] = (
                            T.cast(zero[tile, at, row], "float32x16")
                            if packing.zero_point else splat(T.float32(packing.offset), LANES)
                        )
                    for within in T.serial(T.min(chunks, C - block * chunks)):
                        first = T.meta_var(block * block_size + within * CHUNK)
                        for place in T.unroll(CHUNK):
                            if within * CHUNK + place < block_size and first + place < K:
                                for v in T.unroll(TILE // LANES):
                                    add_weight(sums, x, planes, base, m, tile,
                                               block * chunks + within, first + place, v, place)
                    for v in T.unroll(TILE // LANES):
                        row = T.meta_var(lanes(v * LANES))
                        result[row] = result[row] + sums[row] * w_scale[tile, at, row]
                store(out, m, tile, result, 0)

    return trimmed(kernel, packing)
