"""Table look-up GEMM for families without dot products of bytes (AVX2, plain NEON).

Sums are int16 over one bit plane of as many chunks as fit, then weighted and added in int32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import common
from ladder.codegen.kernels.common import VECTORS, fetch_ahead
from ladder.codegen.kernels.signature import two_planes
from ladder.codegen.kernels.vector import Expr, lanes, splat
from ladder.codegen.layout import LANES, Packing

# Chunks whose look-ups fit an int16: 4 entries of at most 127 each, or of 4 * 127 in two planes.
LONGEST, LONGEST_OF_TWO_PLANES = 64, 16


def lut_gemm(
    family: str,
    packing: Packing,
    mode: str,
    add_chunk_of: Callable[[bool], Any],
    widened: Callable[[Expr], Expr],
    order: Sequence[int] = (0, 1, 2, 3),
) -> Any:
    """The product by table look-ups; operands: ``signature``.

    ``add_chunk_of(split)``: emits, for (acc, table, planes, m, tile, chunk, bit), the addition of
    the entries of a chunk's bit to ``acc`` int16 [64]; ``split``: tables are two planes of bytes.
    Vector v of ``acc`` has the rows of vector ``order[v]``; ``widened`` turns it into int32 in row
    order.
    """
    bits, chunks, split = packing.bits, packing.chunks, two_planes(mode)
    longest = LONGEST_OF_TWO_PLANES if split else LONGEST
    segments, add_chunk = -(-chunks // longest), add_chunk_of(split)

    def add_widened(sums: Any, acc: Any, bit: Expr) -> None:
        for v, vector in enumerate(order):
            row = lanes(vector * LANES)
            weighed = T.shift_left(widened(acc[lanes(v * LANES)]), splat(bit, LANES))
            T.buffer_store(sums, sums[row] + weighed, [row])

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        for v in T.unroll(VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for bit in T.serial(bits):
            for segment in T.serial(segments):
                acc = T.alloc_buffer((VECTORS * LANES,), "int16")
                for v in T.unroll(VECTORS):
                    acc[lanes(v * LANES)] = splat(T.int16(0), LANES)
                for i in T.serial(T.min(T.int64(longest), count - segment * longest)):
                    at = T.meta_var(segment * longest + i)
                    fetch_ahead(args.planes, tile, first, bit * chunks + at, chunks)
                    add_chunk(acc, args.table, args.planes, m, tile, first + at, bit)
                add_widened(sums, acc, bit)

    return common.lut_gemm(family, packing, mode, accumulate)
