"""The product with float activations: weights are decoded in registers. Any type, any target.

The fallback scheme: slower than the integer ones, but only weights are rounded.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import VECTORS, Rows, store
from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import operands
from ladder.codegen.kernels.stored import float_zero, number_at, scale_of, weight_of
from ladder.codegen.kernels.unpack import code_at
from ladder.codegen.kernels.vector import Expr, lanes, plus_product, splat
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing


@cache  # parsing TVMScript takes 0.1 s, and a model asks once per site
def float_gemm(packing: Packing, experts: bool = False) -> Any:
    """A product of float32 [M, K]; operands: ``signature``.

    A block's sum of x * (decoded number) is multiplied by the weight scale and added, blocks in
    ascending order. In a type with a minimum the weights themselves are summed. With ``experts``
    the weight holds those of all experts, each in whole tiles, and ``ids`` [M] names the one that
    each row is multiplied by: no other is read, and none for -1, whose result is 0. ``order`` [M]
    has the rows of an expert one after the other, so that a tile of its weight is read once for all
    of them.
    """
    op = "expert_gemm" if experts else "float_gemm"
    name = f"{op}_{packing}"
    block_size, chunks, grouped = packing.block, packing.chunks, packing.grouped

    @T.inline
    def add_weight(sums, args, rows, m, tile, chunk, k, vector, place):  # type: ignore[no-untyped-def]
        row = T.meta_var(lanes(vector * LANES))
        code = T.meta_var(code_at(packing, args.planes, tile, chunk, place, vector, lanes(0)))
        number = T.meta_var(number_at(packing, code, rows.zeros[row], args.values))
        factor = T.meta_var(_factor(packing, number, rows.scales[row], rows.zeros[row]))
        sums[row] = plus_product(sums[row], splat(args.x[m, k], LANES), factor)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands(op, packing)))
        K = T.meta_var(args.size.K)
        tiles = T.meta_var(args.size.N // TILE if experts else args.size.NT)
        for of_out in T.parallel(tiles):
            for i in T.serial(args.size.M):
                m = T.meta_var(args.order[i] if experts else i)
                tile = T.meta_var(args.ids[m] * tiles + of_out if experts else of_out)
                result = T.alloc_buffer((TILE,), "float32")
                sums = T.alloc_buffer((TILE,), "float32")
                base = T.alloc_buffer((TILE,), "float32")
                scales = T.alloc_buffer((TILE,), "float32")
                rows = T.meta_var(Rows(scales, base))
                for v in T.unroll(VECTORS):
                    result[lanes(v * LANES)] = splat(T.float32(0), LANES)
                some = T.meta_var(args.ids[m] >= T.int64(0) if experts else True)
                for block in T.serial(T.if_then_else(some, T.ceildiv(K, block_size), T.int64(0))):
                    at = T.meta_var(block if grouped else T.int64(0))
                    for v in T.unroll(VECTORS):
                        row = T.meta_var(lanes(v * LANES))
                        sums[row] = splat(T.float32(0), LANES)
                        base[row] = float_zero(packing, args.zero[tile, at, row])
                        stored = T.meta_var(args.w_scale[tile, at, row])
                        scales[row] = scale_of(packing, stored, args.factor)
                    left = T.meta_var(K - block * block_size)
                    for within in T.serial(T.ceildiv(T.min(block_size, left), CHUNK)):
                        first = T.meta_var(block * block_size + within * CHUNK)
                        for place in T.unroll(CHUNK):
                            if within * CHUNK + place < block_size and first + place < K:
                                for v in T.unroll(VECTORS):
                                    chunk = T.meta_var(block * chunks + within)
                                    at_k = T.meta_var(first + place)
                                    add_weight(sums, args, rows, m, tile, chunk, at_k, v, place)
                    for v in T.unroll(VECTORS):
                        row = T.meta_var(lanes(v * LANES))
                        scale = T.meta_var(_last(packing, scales[row]))
                        result[row] = plus_product(result[row], sums[row], scale)
                store(args.out, m, of_out, result, 0)

    return kernel


def _factor(packing: Packing, number: Expr, scale: Expr, minimum: Expr) -> Expr:
    """What x is multiplied by: the number without its scale, or the weight if it has a minimum."""
    return weight_of(packing, number, scale, minimum) if packing.minimum else number


def _last(packing: Packing, scale: Expr) -> Expr:
    """What a block's sum is multiplied by."""
    return splat(T.float32(1), LANES) if packing.minimum else scale
