"""The product with float activations: weights decoded in registers. Any type, any target.

The fallback scheme: slower than the integer ones, but nothing is rounded beside the weights.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import VECTORS, store, trimmed
from ladder.codegen.kernels.stored import code_at, float_zero, number_at, scale_of
from ladder.codegen.kernels.vector import lanes, plus_product, splat
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing


@cache  # reading TVMScript takes 0.1 s, and a model asks once a site
def float_gemm(packing: Packing) -> Any:
    """(x float32 [M, K], planes[, values], w_scale[, zero][, factor], out float32 [M, N]).

    ``values`` float32 [2^bits] is a code book in its units. A block's sum of x * (number the code
    stands for) is multiplied by the weight scale and added, blocks in ascending order.
    """
    name = f"float_gemm_{packing}"
    bits, block_size, chunks, grouped = packing.bits, packing.block, packing.chunks, packing.grouped
    scale_type, zero_type, entries = packing.scale_type, packing.zero_type, packing.entries

    @T.inline
    def add_weight(sums, x, planes, values, base, m, tile, chunk, k, vector, place):  # type: ignore[no-untyped-def]
        row = T.meta_var(lanes(vector * LANES))
        code = T.meta_var(code_at(packing, planes, tile, chunk, place, vector, lanes(0)))
        number = T.meta_var(number_at(packing, code, base[row], values))
        sums[row] = plus_product(sums[row], splat(x[m, k], LANES), number)

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, planes_: T.handle, values_: T.handle, w_scale_: T.handle,  # type: ignore[no-untyped-def]
               zero_: T.handle, factor_: T.handle, out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, N, K, P, S, NT = T.int64(), T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
        x = T.match_buffer(x_, (M, K), "float32")
        planes = T.match_buffer(planes_, (NT, P, bits, 2, LANES), "int32")
        values = T.match_buffer(values_, (entries,), "float32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), scale_type)
        zero = T.match_buffer(zero_, (NT, S, TILE), zero_type)
        factor = T.match_buffer(factor_, (1,), "float32")
        out = T.match_buffer(out_, (M, N), "float32")
        for tile in T.parallel(NT):
            for m in T.serial(M):
                result = T.alloc_buffer((TILE,), "float32")
                sums = T.alloc_buffer((TILE,), "float32")
                base = T.alloc_buffer((TILE,), "float32")
                for v in T.unroll(VECTORS):
                    result[lanes(v * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(T.ceildiv(K, block_size)):
                    at = T.meta_var(block if grouped else T.int64(0))
                    for v in T.unroll(VECTORS):
                        row = T.meta_var(lanes(v * LANES))
                        sums[row] = splat(T.float32(0), LANES)
                        base[row] = float_zero(packing, zero[tile, at, row])
                    left = T.meta_var(K - block * block_size)
                    for within in T.serial(T.ceildiv(T.min(block_size, left), CHUNK)):
                        first = T.meta_var(block * block_size + within * CHUNK)
                        for place in T.unroll(CHUNK):
                            if within * CHUNK + place < block_size and first + place < K:
                                for v in T.unroll(VECTORS):
                                    add_weight(sums, x, planes, values, base, m, tile,
                                               block * chunks + within, first + place, v, place)
                    for v in T.unroll(VECTORS):
                        row = T.meta_var(lanes(v * LANES))
                        scale = T.meta_var(scale_of(packing, w_scale[tile, at, row], factor))
                        result[row] = plus_product(result[row], sums[row], scale)
                store(out, m, tile, result, 0)

    return trimmed(kernel, packing)
