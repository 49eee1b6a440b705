"""Low-bit products for AVX-512 VBMI and VNNI.

One register holds the four tables of a chunk. A dword of a plane holds the indices of one row
into them, so ``vpermb`` looks all four up and ``vpdpbusd`` with the constant 2^bit sums them and
weighs the bit, exactly, into 16 rows of int32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm.script import tirx as T

from ladder.codegen.kernels import common, dot, tile
from ladder.codegen.kernels.common import VECTORS, fetch_ahead
from ladder.codegen.kernels.vector import Expr, lanes, llvm, repeated, shuffle, splat
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.element import TRIT_WEIGHTS

TABLE_OF_BYTE = 0x30201000  # byte j of a dword looks in table j
LOW_NIBBLES = 0x0F0F0F0F
BYTES = 64
LARGEST_SIGNED = 64  # power of two in an int8: bit 7 of unsigned look-ups takes two steps


def dot_bytes(acc: Expr, unsigned: Expr, signed: Expr) -> Expr:
    """vpdpbusd: acc [16] int32 += sums of four u8 * s8 products."""
    return llvm("x86.avx512.vpdpbusd.512", "int32x16", acc, unsigned, signed)


def _permuted(table: Expr, index: Expr) -> Expr:
    """vpermb: the bytes of ``table`` [64] that the low 6 bits of the bytes of ``index`` name."""
    return llvm("x86.avx512.permvar.qi.512", "int8x64", table, index)


def _look_up(table: Expr, plane: Expr, high: Expr) -> Expr:
    """The bytes of ``table`` [4 x 16] that the low or the high nibbles of a plane vector name."""
    dwords = T.shift_right(plane, splat(T.cast(high * 4, "int32"), LANES))
    nibbles = T.bitwise_and(dwords, splat(T.int32(LOW_NIBBLES), LANES))
    index = T.bitwise_or(nibbles, splat(T.int32(TABLE_OF_BYTE), LANES))
    return _permuted(table, T.reinterpret(index, dtype="int8x64"))


def _bytes(value: Expr) -> Expr:
    """A byte 0..255 in every byte of a vector."""
    dword = T.cast(value, "uint32") * T.uint32(0x01010101)
    return T.reinterpret(splat(dword, LANES), dtype="int8x64")


def _one_plane(bits: int) -> Any:
    @T.inline
    def accumulate(sums, table, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        for v in T.unroll(VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for i in T.serial(count):
            for bit in T.unroll(bits):
                fetch_ahead(planes, tile, first + i, bit, 0)
                for v in T.unroll(VECTORS):
                    plane = T.meta_var(planes[tile, first + i, bit, v // 2, lanes(0)])
                    entry = T.meta_var(
                        _look_up(table[m, first + i, T.ramp(0, 1, 64)], plane, v % 2)
                    )
                    weight = T.meta_var(_bytes(T.shift_left(T.int32(1), bit)))
                    sums[lanes(v * LANES)] = dot_bytes(sums[lanes(v * LANES)], weight, entry)

    return accumulate


def _two_planes(bits: int) -> Any:
    @T.inline
    def accumulate(sums, table, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        high = T.alloc_buffer((TILE,), "int32")
        for v in T.unroll(VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
            high[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for i in T.serial(count):
            for bit in T.unroll(bits):
                fetch_ahead(planes, tile, first + i, bit, 0)
                for v in T.unroll(VECTORS):
                    row = T.meta_var(lanes(v * LANES))
                    plane = T.meta_var(planes[tile, first + i, bit, v // 2, lanes(0)])
                    low = T.meta_var(
                        _look_up(table[m, first + i, 0, T.ramp(0, 1, 64)], plane, v % 2)
                    )
                    top = T.meta_var(
                        _look_up(table[m, first + i, 1, T.ramp(0, 1, 64)], plane, v % 2)
                    )
                    power = T.meta_var(T.shift_left(T.int32(1), bit))
                    step = T.meta_var(_bytes(T.min(power, LARGEST_SIGNED)))
                    sums[row] = dot_bytes(sums[row], low, step)
                    if power > LARGEST_SIGNED:
                        sums[row] = dot_bytes(sums[row], low, step)
                    high[row] = dot_bytes(high[row], _bytes(power), top)
        for v in T.unroll(VECTORS):
            row = T.meta_var(lanes(v * LANES))
            sums[row] = sums[row] + T.shift_left(high[row], splat(T.int32(8), LANES))

    return accumulate


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups; arguments in ``common``."""
    accumulate = (_two_planes if common.two_planes(mode) else _one_plane)(packing.bits)
    return common.lut_gemm("avx512", packing, mode, accumulate)


def _multiply(sums: Expr, quads: Expr, four: Expr) -> Expr:
    rows = T.reinterpret(splat(four, LANES), dtype="int8x64")
    return dot_bytes(sums, T.reinterpret(quads, dtype="int8x64"), rows)


def _part(digits: Any, d: Expr, entries: int, start: int) -> Expr:
    """64 entries of a code book from ``start`` on; a smaller book is repeated."""
    width = min(entries, BYTES)
    part = digits[d, T.ramp(start, 1, width)]
    return T.reinterpret(repeated(part, width, BYTES // width), dtype="int8x64")


def _book_entries(digits: Any, d: Expr, entries: int, quads: Expr) -> Expr:
    """vpermb for up to 64 entries; vpermi2b looks in 128."""
    index = T.reinterpret(quads, dtype="int8x64")
    if entries <= BYTES:
        found = _permuted(_part(digits, d, entries, 0), index)
        return T.reinterpret(found, dtype="int32x16")
    found = [
        llvm(
            "x86.avx512.vpermi2var.qi.512",
            "int8x64",
            _part(digits, d, entries, start),
            index,
            _part(digits, d, entries, start + BYTES),
        )
        for start in range(0, entries, 2 * BYTES)
    ]
    chosen = found[0]
    if len(found) > 1:
        chosen = T.Select(index < splat(T.int8(0), BYTES), found[1], found[0])
    return T.reinterpret(chosen, dtype="int32x16")


def _constant(entries: Sequence[int]) -> Expr:
    """64 bytes, zeros behind the ``entries``."""
    words = np.array([*entries, *[0] * (BYTES - len(entries))], np.uint8).view(np.int32)
    numbers = [T.int32(int(word)) for word in words]
    return T.reinterpret(shuffle(numbers, [*range(LANES)]), dtype="int8x64")


def trits_by_tables(quads: Any, words: Expr) -> None:
    """Five quads [5 * 16] of a vector of trits: the first two by the upper six bits of a byte.

    What their weights leave is less than 28, and names the other three.
    """
    upper = T.reinterpret(T.shift_right(words, splat(T.int32(2), LANES)), dtype="int8x64")
    first, second, *others = TRIT_WEIGHTS
    of_upper = [(4 * i // first, 4 * i % first // second) for i in range(BYTES)]
    taken = _constant([a * first + b * second for a, b in of_upper])
    rest = T.reinterpret(words, dtype="int8x64") - _permuted(taken, upper)
    tables = [(_constant([pair[i] for pair in of_upper]), upper) for i in range(2)]
    tables += [(_constant([i // weight % 3 for i in range(second)]), rest) for weight in others]
    for i, (table, index) in enumerate(tables):
        found = T.reinterpret(_permuted(table, index), dtype="int32x16")
        T.buffer_store(quads, found, [lanes(i * LANES)])


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product by integer dot products; arguments in ``common``."""
    return dot.dot_gemm(
        "avx512", packing, _multiply, _book_entries, trits_by_tables, wide=True, single=True
    )


def tile_gemm(packing: Packing, mode: str) -> Any:
    """The product by AMX's tiles, codes unpacked as for ``dot_gemm``; arguments in ``common``."""
    return tile.tile_gemm("amx", packing, _book_entries, trits_by_tables)
