"""Embedding look-up in a packed low-bit table."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import trimmed
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing


@cache
def gather(packing: Packing, k: int) -> Any:
    """ids int64 [M], planes, w_scale[, zero] -> float32 [M, K] = (code - zero) * scale.

    The planes are the very ones that products read, so a tied table is stored once.
    """
    name = f"gather_{packing}_k{k}"
    bits, block, chunks, grouped = packing.bits, packing.block, packing.chunks, packing.grouped

    # fmt: off
    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(ids_: T.handle, planes_: T.handle, w_scale_: T.handle, zero_: T.handle,  # type: ignore[no-untyped-def]
               out_: T.handle):
        # fmt: on
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, C, S, NT = T.int64(), T.int64(), T.int64(), T.int64()
        ids = T.match_buffer(ids_, (M,), "int64")
        planes = T.match_buffer(planes_, (NT, C, bits, 2, LANES), "int32")
        w_scale = T.match_buffer(w_scale_, (NT, S, TILE), "float32")
        zero = T.match_buffer(zero_, (NT, S, TILE), "uint8")
        out = T.match_buffer(out_, (M, k), "float32")
        for m in T.serial(M):
            code = T.alloc_buffer((1,), "int32", scope="local")
            tile = T.meta_var(ids[m] // TILE)
            row = T.meta_var(ids[m] % TILE)
            for i in T.serial(k):
                within = T.meta_var(i % block)
                chunk = T.meta_var(i // block * chunks + within // CHUNK)
                group = T.meta_var(within % CHUNK // 4)
                shift = T.meta_var(
                    T.cast(group * 8 + within % 4, "int32") + T.cast(row // LANES % 2 * 4, "int32")
                )
                code[0] = 0
                for b in T.unroll(bits):
                    line = T.meta_var(planes[tile, chunk, b, row // (2 * LANES), row % LANES])
                    bit = T.meta_var(T.bitwise_and(T.shift_right(line, shift), 1))
                    code[0] = code[0] + T.shift_left(bit, b)
                at = T.meta_var(i // block if grouped else 0)
                base = T.meta_var(
                    T.cast(zero[tile, at, row], "int32")
                    if packing.zero_point
                    else T.int32(packing.offset)
                )
                out[m, i] = T.cast(code[0] - base, "float32") * w_scale[tile, at, row]

    return trimmed(kernel, packing)
