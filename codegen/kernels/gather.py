"""Embedding look-up in a packed low-bit table."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import trimmed
from ladder.codegen.kernels.stored import code_at, float_zero, number_at, scale_of
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing


@cache
def gather(packing: Packing, k: int) -> Any:
    """ids int64 [M], planes[, values], w_scale[, zero][, factor] -> float32 [M, K].

    Elements are (step * code - zero) * scale, or values[code] * scale. The planes are the very
    ones that products read, so a tied table is stored once.
    """
    name = f"gather_{packing}_k{k}"
    bits, block, chunks, grouped = packing.bits, packing.block, packing.chunks, packing.grouped
    scale_type, zero_type, entries = packing.scale_type, packing.zero_type, packing.entries

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(ids_: T.handle, planes_: T.handle, values_: T.handle, w_scale_: T.handle,  # type: ignore[no-untyped-def]
               zero_: T.handle, factor_: T.handle, out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, P, S, NT = T.int64(), T.int64(), T.int64(), T.int64()
        ids = T.match_buffer(ids_, (M,), "int64")
        planes = T.match_buffer(planes_, (NT, P, bits, 2, LANES), "int32")
        values = T.match_buffer(values_, (entries,), "float32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), scale_type)
        zero = T.match_buffer(zero_, (NT, S, TILE), zero_type)
        factor = T.match_buffer(factor_, (1,), "float32")
        out = T.match_buffer(out_, (M, k), "float32")
        for m in T.serial(M):
            tile = T.meta_var(ids[m] // TILE)
            row = T.meta_var(ids[m] % TILE)
            for i in T.serial(k):
                within = T.meta_var(i % block)
                chunk = T.meta_var(i // block * chunks + within // CHUNK)
                code = T.meta_var(code_at(packing, planes, tile, chunk, within % CHUNK,
                                          row // LANES, row % LANES, 1))
                at = T.meta_var(i // block if grouped else 0)
                base = T.meta_var(float_zero(packing, zero[tile, at, row], 1))
                number = T.meta_var(number_at(packing, code, base, values, 1))
                scale = T.meta_var(scale_of(packing, w_scale[tile, at, row], factor, 1))
                out[m, i] = number * scale

    return trimmed(kernel, packing)
