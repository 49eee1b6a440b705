"""Table look-up GEMM for AVX-512 VBMI and VNNI.

One register holds the four tables of a chunk. A dword of a plane holds the indices of one row
into them, so ``vpermb`` looks all four up and ``vpdpbusd`` with the constant 2^bit sums them and
weighs the bit, exactly, into 16 rows of int32.
"""

from __future__ import annotations

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, lanes16, llvm, splat, unfused
from ladder.codegen.layout import LANES, TILE, Packing

TABLE_OF_BYTE = 0x30201000  # byte j of a dword looks in table j
LOW_NIBBLES = 0x0F0F0F0F
LARGEST_WEIGHT = 64  # of a signed byte that is a power of two: bit 7 takes two steps


def _look_up(table: Expr, plane: Expr, high: int) -> Expr:
    """The bytes of ``table`` [4 x 16] that the low or high nibbles of a plane vector name."""
    dwords = T.shift_right(plane, splat(T.int32(4), LANES)) if high else plane
    index = T.bitwise_or(
        T.bitwise_and(dwords, splat(T.int32(LOW_NIBBLES), LANES)),
        splat(T.int32(TABLE_OF_BYTE), LANES),
    )
    return llvm("x86.avx512.permvar.qi.512", "int8x64", table, T.reinterpret(index, dtype="int8x64"))


def dot_bytes(acc: Expr, unsigned: Expr, signed: Expr) -> Expr:
    """vpdpbusd: acc [16] int32 += sums of four u8 * s8 products."""
    return llvm("x86.avx512.vpdpbusd.512", "int32x16", acc, unsigned, signed)


def _weight(bit: Expr) -> Expr:
    return splat(T.cast(T.shift_left(T.int32(1), bit), "int8"), 64)


def _half_weight(bit: Expr) -> Expr:
    return splat(T.cast(T.min(T.shift_left(T.int32(1), bit), LARGEST_WEIGHT), "int8"), 64)
