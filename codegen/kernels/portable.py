"""Low-bit products in plain TIR, for any CPU: one scalar look-up at a time."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import common, dot
from ladder.codegen.kernels.common import VECTORS
from ladder.codegen.kernels.signature import two_planes
from ladder.codegen.kernels.vector import Expr, lanes, splat
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.numerics import LUT_GROUP


def _entries(table: Any, m: Expr, chunk: Expr, group: Expr, split: bool) -> Expr:
    """The 16 entries of one table as int32."""
    if not split:
        return T.cast(table[m, chunk, lanes(group * LANES)], "int32x16")
    low = T.reinterpret(table[m, chunk, 0, lanes(group * LANES)], dtype="uint8x16")
    high = T.cast(table[m, chunk, 1, lanes(group * LANES)], "int32x16")
    return T.shift_left(high, splat(T.int32(8), LANES)) + T.cast(low, "int32x16")


def _looked_up(entries: Any, word: Expr, half: int) -> Expr:
    """The sum of the entries at a dword's nibbles, over its four table groups."""
    total = T.int32(0)
    for j in range(LUT_GROUP):
        index = T.bitwise_and(T.shift_right(word, T.int32(8 * j + 4 * half)), T.int32(15))
        total = total + entries[j * LANES + index]
    return total


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups; operands: ``signature``."""
    bits, split = packing.bits, two_planes(mode)

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        entries = T.alloc_buffer((TILE,), "int32")
        for v in T.unroll(VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for i in T.serial(count):
            for j in T.unroll(LUT_GROUP):
                entries[lanes(j * LANES)] = _entries(args.table, m, first + i, j, split)
            for bit in T.serial(bits):
                for v in T.serial(2):
                    for r in T.serial(LANES):
                        word = T.meta_var(args.planes[tile, first + i, bit, v, r])
                        row = T.meta_var(v * 2 * LANES + r)
                        low = T.meta_var(_looked_up(entries, word, 0))
                        high = T.meta_var(_looked_up(entries, word, 1))
                        sums[row] = sums[row] + T.shift_left(low, bit)
                        sums[row + LANES] = sums[row + LANES] + T.shift_left(high, bit)

    return common.lut_gemm("portable", packing, mode, accumulate)


def _byte(words: Expr, j: int) -> Expr:
    """Byte j of each dword, unsigned."""
    moved = T.shift_right(words, splat(T.int32(8 * j), LANES))
    return T.bitwise_and(moved, splat(T.int32(255), LANES))


def _multiply(sums: Expr, quads: Expr, four: Expr) -> Expr:
    for j in range(LUT_GROUP):
        signed = T.cast(T.cast(T.shift_right(four, T.int32(8 * j)), "int8"), "int32")
        sums = sums + _byte(quads, j) * splat(signed, LANES)
    return sums


def _book_entries(digits: Any, d: Expr, entries: int, quads: Expr) -> Expr:
    found = splat(T.int32(0), LANES)
    for j in range(LUT_GROUP):
        entry = T.cast(digits[d, _byte(quads, j)], "int32x16")
        found = T.bitwise_or(found, T.shift_left(entry, splat(T.int32(8 * j), LANES)))
    return found


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product by integer dot products; operands: ``signature``."""
    of = dot.Primitives(_multiply, _book_entries, loop=T.serial)
    return dot.dot_gemm("portable", packing, of)
