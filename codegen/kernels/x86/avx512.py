"""Low-bit products for AVX-512 VBMI and VNNI.

One register holds the four tables of a chunk: ``vpermb`` looks up in all of them at once, and
``vpdpbusd`` sums and weights the entries (``lut_dots``).
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import dot, lut_dots
from ladder.codegen.kernels.lut_dots import (
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    TABLE_OF_BYTE,
    Primitives,
    Weigh,
)
from ladder.codegen.kernels.vector import Expr, llvm, repeated, splat
from ladder.codegen.kernels.x86 import tile
from ladder.codegen.layout import LANES, Packing

LOW_NIBBLES = 0x0F0F0F0F
BYTES = 64


def dot_bytes(acc: Expr, unsigned: Expr, signed: Expr) -> Expr:
    """vpdpbusd: acc [16] int32 += sums of four u8 * s8 products."""
    return llvm("x86.avx512.vpdpbusd.512", "int32x16", acc, unsigned, signed)


def _permuted(table: Expr, index: Expr) -> Expr:
    """vpermb: the bytes of ``table`` [64] at the low 6 bits of the bytes of ``index``."""
    return llvm("x86.avx512.permvar.qi.512", "int8x64", table, index)


def _look_up(table: Expr, plane: Expr, high: Expr) -> Expr:
    """The bytes of ``table`` [4 x 16] at the low or the high nibbles of a plane vector."""
    dwords = T.shift_right(plane, splat(T.cast(high * 4, "int32"), LANES))
    nibbles = T.bitwise_and(dwords, splat(T.int32(LOW_NIBBLES), LANES))
    index = T.bitwise_or(nibbles, splat(T.int32(TABLE_OF_BYTE), LANES))
    return _permuted(table, T.reinterpret(index, dtype="int8x64"))


LOOK_UPS = Primitives(
    _look_up,
    signed=Weigh(lambda sums, entries, power: dot_bytes(sums, power, entries), LARGEST_UNSIGNED),
    unsigned=Weigh(dot_bytes, LARGEST_SIGNED),
)


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups; operands: ``signature``."""
    return lut_dots.lut_gemm("avx512", packing, mode, LOOK_UPS)


def _multiply(sums: Expr, quads: Expr, four: Expr) -> Expr:
    rows = T.reinterpret(splat(four, LANES), dtype="int8x64")
    return dot_bytes(sums, T.reinterpret(quads, dtype="int8x64"), rows)


def _part(digits: Any, d: Expr, entries: int, start: int) -> Expr:
    """64 entries of a code book from ``start`` on; a smaller book is repeated."""
    width = min(entries, BYTES)
    part = digits[d, T.ramp(start, 1, width)]
    return T.reinterpret(repeated(part, width, BYTES // width), dtype="int8x64")


def _book_entries(digits: Any, d: Expr, entries: int, quads: Expr) -> Expr:
    """vpermb for up to 64 entries, vpermi2b for 128."""
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


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product by integer dot products; operands: ``signature``."""
    of = dot.Primitives(_multiply, _book_entries, wide=True, single=LANES, permute=_permuted)
    return dot.dot_gemm("avx512", packing, of)


def tile_gemm(packing: Packing, mode: str) -> Any:
    """The product by matrix tiles, with codes unpacked as in ``dot_gemm``; see ``signature``."""
    return tile.tile_gemm("amx", packing, _book_entries, _permuted)
