"""Table look-up GEMM for AVX2.

``vpshufb`` looks up 16 bytes in one table per lane, so the four dword vectors of a chunk's bit are
transposed until 32 bytes share a table group. Sums: ``lut_planes``.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import lut_planes
from ladder.codegen.kernels.vector import Expr, kept, lanes, llvm, shuffle, splat
from ladder.codegen.layout import LANES, Packing
from ladder.ir.numerics import LUT_GROUP

BYTES = 32
BY_GROUP = [16 * lane + 4 * d + j for lane in range(2) for j in range(4) for d in range(4)]
DOWN_LANES = [0, 2, 1, 3]  # quadwords: restores the order of 16 rows after unpacking


def _unpack(a: Expr, b: Expr, high: int, width: int) -> Expr:
    """vpunpckl, vpunpckh: half of each 16-byte lane of two vectors, zipped by ``width`` bytes."""
    count = BYTES // width  # elements of one vector
    half = count // 4
    starts = [lane * count // 2 + high * half for lane in range(2)]
    return shuffle(
        [a, b], [i + side for s in starts for i in range(s, s + half) for side in (0, count)]
    )


def _quads(x: Expr, dtype: str) -> Expr:
    return T.reinterpret(x, dtype=dtype)


def _half(planes: Any, tile: Expr, chunk: Expr, bit: Expr, half: int) -> Expr:
    """Eight dwords of a plane with the bytes of a table group next to each other, as int32 [8]."""
    dwords = planes[tile, chunk, bit, half // 2, T.ramp(half % 2 * 8, 1, 8)]
    # LLVM would merge this shuffle into the next ones and need twice as many.
    return kept(shuffle([_quads(dwords, "int8x32")], BY_GROUP), "int32x8")


def _group(planes: Any, tile: Expr, chunk: Expr, bit: Expr, j: int) -> Expr:
    """The nibble pairs of table group j for the 32 + 32 rows of a tile, uint8 [32]."""
    y = [_half(planes, tile, chunk, bit, half) for half in range(4)]
    pairs = [_quads(_unpack(y[i], y[i + 1], j // 2, 4), "int64x4") for i in (0, 2)]
    return _quads(_unpack(pairs[0], pairs[1], j % 2, 8), "uint8x32")


def _look_up(table: Expr, nibbles: Expr, high: Expr) -> Expr:
    shifted = T.shift_right(nibbles, splat(T.cast(high * 4, "uint8"), BYTES))
    index = T.bitwise_and(shifted, splat(T.uint8(15), BYTES))
    both_lanes = shuffle([table, table], [*range(32)])
    return llvm("x86.avx2.pshuf.b", "int8x32", both_lanes, _quads(index, "int8x32"))


def _widened(acc: Expr) -> Expr:
    """int16 [16] in the order of unpacking -> int32 [16] in row order."""
    ordered = shuffle([_quads(acc, "int64x4")], DOWN_LANES)
    return T.cast(_quads(ordered, "int16x16"), "int32x16")


def _pair(
    split: bool, table: Any, m: Expr, chunk: Expr, nibbles: Any, step: Expr, high: Expr
) -> Any:
    """Two vectors of look-ups whose bytes form pairs: of two groups, or low and high bytes."""
    if split:
        group = nibbles[T.ramp(step * BYTES, 1, BYTES)]
        tables = [table[m, chunk, part, lanes(step * LANES)] for part in range(2)]
        return [_look_up(t, group, high) for t in tables]
    both = [step * 2, step * 2 + 1]
    return [
        _look_up(table[m, chunk, lanes(j * LANES)], nibbles[T.ramp(j * BYTES, 1, BYTES)], high)
        for j in both
    ]


def _sum_of_pair(split: bool, pair: Any, half: int) -> Expr:
    zipped = _unpack(pair[0], pair[1], half, 1)
    if split:  # a low and a high byte form the int16 entry
        return _quads(zipped, "int16x16")
    ones = _quads(splat(T.int8(1), BYTES), "int8x32")
    return llvm("x86.avx2.pmadd.ub.sw", "int16x16", ones, zipped)


def _add_chunk(split: bool) -> Any:
    steps = LUT_GROUP if split else LUT_GROUP // 2

    @T.inline
    def add_chunk(acc, table, planes, m, tile, chunk, bit):  # type: ignore[no-untyped-def]
        nibbles = T.alloc_buffer((LUT_GROUP * BYTES,), "uint8")
        nibbles[T.ramp(0, 1, BYTES)] = _group(planes, tile, chunk, bit, 0)
        nibbles[T.ramp(BYTES, 1, BYTES)] = _group(planes, tile, chunk, bit, 1)
        nibbles[T.ramp(2 * BYTES, 1, BYTES)] = _group(planes, tile, chunk, bit, 2)
        nibbles[T.ramp(3 * BYTES, 1, BYTES)] = _group(planes, tile, chunk, bit, 3)
        for step in T.unroll(steps):
            for high in T.unroll(2):
                pair = T.meta_var(_pair(split, table, m, chunk, nibbles, step, high))
                at = T.meta_var(lanes(high * 2 * LANES))
                next_at = T.meta_var(lanes(high * 2 * LANES + LANES))
                acc[at] = acc[at] + _sum_of_pair(split, pair, 0)
                acc[next_at] = acc[next_at] + _sum_of_pair(split, pair, 1)

    return add_chunk


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups; operands: ``signature``."""
    return lut_planes.lut_gemm("avx2", packing, mode, _add_chunk, _widened, (0, 2, 1, 3))
