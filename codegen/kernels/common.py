"""What the low-bit products of every family share: their arguments, their float sums, their name.

Arguments, in this order (shapes and terms: ``ladder.codegen.layout``):

- ``table``: int8 [M, C, 64] (``table8``) or [M, C, 2, 64] (``int8``)
- ``a_scale``: float32 [M, B], ``a_total``: int32 [M, B]
- ``planes``: int32 [NT, C, bits, 2, 16]
- ``w_scale``: float32 [NT, S, 64], ``zero``: uint8 [NT, S, 64] (only types with a zero point)
- ``out``: float32 [M, N]
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, lanes, prefetch, splat, unfused
from ladder.codegen.layout import LANES, TILE, Packing

VECTORS = TILE // LANES
MODES = ("int8", "table8")
AHEAD = 4096  # bytes: the hardware prefetcher stops at a page, so the next one is asked for


def correction(packing: Packing, mode: str, zero: Expr) -> Expr:
    """The factor of ``total`` in a block sum [16 rows], for zero points ``zero`` [16] uint8."""
    code = T.cast(zero, "int32x16") if packing.zero_point else splat(T.int32(packing.offset), LANES)
    if mode == "int8":
        return T.int32(0) - code if not packing.zero_point else splat(T.int32(0), LANES) - code
    return splat(T.int32((1 << packing.bits) - 1), LANES) - splat(T.int32(2), LANES) * code


def trimmed(func: Any, packing: Packing) -> Any:
    """``func`` without its parameter ``zero`` where the type has none."""
    if packing.zero_point:
        return func
    kept = [p for p in func.params if p.name != "zero"]
    return tvm.tirx.PrimFunc(kept, func.body, func.ret_type, func.attrs)


def combine(packing: Packing, mode: str) -> Any:
    """One block into the float sums of a tile, as ``numerics.combine`` has it."""
    grouped = packing.grouped

    @T.inline
    def emit(result, first, sums, at_sum, tile, block, w_scale, zero, scale, total):  # type: ignore[no-untyped-def]
        for v in T.unroll(VECTORS):
            row = T.meta_var(lanes(v * LANES))
            at = T.meta_var(block if grouped else T.int64(0))
            factor = T.meta_var(correction(packing, mode, zero[tile, at, row]))
            whole = T.meta_var(sums[lanes(at_sum + v * LANES)] + factor * splat(total, LANES))
            product = T.meta_var(T.cast(whole, "float32x16") * w_scale[tile, at, row])
            result[lanes(first + v * LANES)] = result[lanes(first + v * LANES)] + unfused(
                product * splat(scale, LANES)
            )

    return emit


@T.inline
def fetch_ahead(planes, tile, chunk, line, least):  # type: ignore[no-untyped-def]
    """Ask for pair ``line`` of cache lines from ``chunk`` on, ``AHEAD`` bytes later.

    A kernel that reads a block out of order asks in order, ``least`` chunks (a block) ahead.
    """
    later = T.meta_var(chunk + T.max(least, AHEAD // (planes.shape[2] * 2 * LANES * 4)))
    for v in T.unroll(2):
        T.evaluate(prefetch(T.address_of(planes[tile, later, 0, 0, (line * 2 + v) * LANES])))


@T.inline
def store(out, m, tile, result, first):  # type: ignore[no-untyped-def]
    """64 float sums to their place in ``out``, which may end within the tile."""
    if tile * TILE + TILE <= out.shape[1]:
        for v in T.unroll(VECTORS):
            out[m, lanes(tile * TILE + v * LANES)] = result[lanes(first + v * LANES)]
    else:
        for row in T.serial(out.shape[1] - tile * TILE):
            out[m, tile * TILE + row] = result[first + row]


def lut_gemm(family: str, packing: Packing, mode: str, accumulate: Any) -> Any:
    """The look-up product around ``accumulate(sums, table, planes, m, tile, first, count)``.

    ``accumulate`` is inlined: it fills ``sums`` [64] int32 with the weighed look-ups of ``count``
    chunks that begin at ``first``.
    """
    name = f"lut_gemm_{family}_{mode}_{packing}"
    bits, chunks = packing.bits, packing.chunks
    entry = (2, 64) if mode == "int8" else (64,)
    add_block = combine(packing, mode)

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(table_: T.handle, a_scale_: T.handle, a_total_: T.handle, planes_: T.handle,  # type: ignore[no-untyped-def]
               w_scale_: T.handle, zero_: T.handle, out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, N, B, C, S, NT = T.int64(), T.int64(), T.int64(), T.int64(), T.int64(), T.int64()
        table = T.match_buffer(table_, (M, C, *entry), "int8")
        a_scale = T.match_buffer(a_scale_, (M, B), "float32")
        a_total = T.match_buffer(a_total_, (M, B), "int32")
        planes = T.match_buffer(planes_, (NT, C, bits, 2, LANES), "int32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), "float32")
        zero = T.match_buffer(zero_, (NT, S, TILE), "uint8")
        out = T.match_buffer(out_, (M, N), "float32")
        for tile in T.parallel(NT):
            for m in T.serial(M):
                result = T.alloc_buffer((TILE,), "float32", scope="local")
                for v in T.unroll(VECTORS):
                    result[lanes(v * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(B):
                    sums = T.alloc_buffer((TILE,), "int32", scope="local")
                    first = T.meta_var(block * chunks)
                    accumulate(sums, table, planes, m, tile, first, T.min(chunks, C - first))
                    add_block(result, 0, sums, 0, tile, block, w_scale, zero,
                              a_scale[m, block], a_total[m, block])
                store(out, m, tile, result, 0)

    return trimmed(kernel, packing)
