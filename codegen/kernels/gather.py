"""Embedding look-up in a packed low-bit table."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import operands
from ladder.codegen.kernels.stored import float_zero, number_at, scale_of, weight_of
from ladder.codegen.kernels.unpack import code_at
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing


@cache
def gather(packing: Packing, k: int) -> Any:
    """Rows of float32 [M, K] by their numbers; operands: ``signature``.

    Elements are (step * code - zero) * scale, code * scale + minimum, or values[code] * scale. The
    planes are the same that products read, so a tied table is stored once.
    """
    name = f"gather_{packing}_k{k}"
    block, chunks, grouped = packing.block, packing.chunks, packing.grouped

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands("gather", packing), sizes={"K": k}))
        for m in T.serial(args.size.M):
            tile = T.meta_var(args.ids[m] // TILE)
            row = T.meta_var(args.ids[m] % TILE)
            for i in T.serial(k):
                within = T.meta_var(i % block)
                chunk = T.meta_var(i // block * chunks + within // CHUNK)
                code = T.meta_var(
                    code_at(
                        packing,
                        args.planes,
                        tile,
                        chunk,
                        within % CHUNK,
                        row // LANES,
                        row % LANES,
                        1,
                    )
                )
                at = T.meta_var(i // block if grouped else 0)
                base = T.meta_var(float_zero(packing, args.zero[tile, at, row], 1))
                number = T.meta_var(number_at(packing, code, base, args.values, 1))
                scale = T.meta_var(scale_of(packing, args.w_scale[tile, at, row], args.factor, 1))
                args.out[m, i] = weight_of(packing, number, scale, base, 1)

    return kernel
