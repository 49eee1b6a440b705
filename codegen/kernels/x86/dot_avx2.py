"""Integer dot products in 256-bit registers: AVX2, also with AVX-VNNI."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import dot
from ladder.codegen.kernels.vector import Expr, halves, llvm, repeated, splat
from ladder.codegen.layout import LANES, Packing

BYTES = 32
TABLE = 16  # bytes of vpshufb's table
EVEN_BYTES = 0x00FF00FF
ROOM = 7  # bits of codes whose products with int8 codes, two at a time, fit an int16


def _words(x: Expr) -> Expr:
    return T.reinterpret(x, dtype="int16x16")


def _bytes(x: Expr) -> Expr:
    return T.reinterpret(x, dtype="int8x32")


def _pairs(a: Expr, b: Expr) -> Expr:
    """vpmaddwd: sums of two products of int16, int32 [8]."""
    return llvm("x86.avx2.pmadd.wd", "int32x8", _words(a), _words(b))


def _narrow(sums: Expr, quads: Expr, four: Expr) -> Expr:
    """For codes of at most 7 bits, with which vpmaddubsw cannot saturate."""
    signed = _bytes(splat(four, 8))
    ones = T.reinterpret(splat(T.int32(0x00010001), 8), dtype="int32x8")

    def add(sums: Expr, quads: Expr) -> Expr:
        two = llvm("x86.avx2.pmadd.ub.sw", "int16x16", _bytes(quads), signed)
        return sums + _pairs(two, ones)

    return halves(add, sums, quads)


def _wide(sums: Expr, quads: Expr, four: Expr) -> Expr:
    """For any unsigned bytes: even and odd ones are multiplied as int16."""
    eight = splat(T.int16(8), 16)
    signed = _words(splat(four, 8))
    even = T.shift_right(T.shift_left(signed, eight), eight)
    odd = T.shift_right(signed, eight)

    def add(sums: Expr, quads: Expr) -> Expr:
        mask = splat(T.int32(EVEN_BYTES), 8)
        low = T.bitwise_and(quads, mask)
        high = T.bitwise_and(T.shift_right(quads, splat(T.int32(8), 8)), mask)
        return sums + _pairs(low, even) + _pairs(high, odd)

    return halves(add, sums, quads)


def _vnni(sums: Expr, quads: Expr, four: Expr) -> Expr:
    """vpdpbusd."""
    signed = _bytes(splat(four, 8))

    def add(sums: Expr, quads: Expr) -> Expr:
        return llvm("x86.avx512.vpdpbusd.256", "int32x8", sums, _bytes(quads), signed)

    return halves(add, sums, quads)


def _table(digits: Any, d: Expr, entries: int, start: int) -> Expr:
    """16 entries of a code book in each half; a smaller book is repeated."""
    width = min(entries, TABLE)
    part = digits[d, T.ramp(start, 1, width)]
    return _bytes(repeated(part, width, BYTES // width))


def _book_entries(digits: Any, d: Expr, entries: int, quads: Expr) -> Expr:
    """vpshufb for every 16 entries; each further bit of the code selects one of two halves."""

    def find(quads: Expr) -> Expr:
        index = _bytes(T.bitwise_and(quads, splat(T.int32(0x0F0F0F0F), 8)))
        found = [
            llvm("x86.avx2.pshuf.b", "int8x32", _table(digits, d, entries, start), index)
            for start in range(0, entries, TABLE)
        ]
        bit = 4
        while len(found) > 1:
            # Blends use the highest bit of a byte; bits that cross into other bytes do not matter.
            chooser = _bytes(T.shift_left(quads, splat(T.int32(7 - bit), 8)))
            pairs = zip(found[::2], found[1::2], strict=True)
            found = [llvm("x86.avx2.pblendvb", "int8x32", a, b, chooser) for a, b in pairs]
            bit += 1
        return T.reinterpret(found[0], dtype="int32x8")

    return halves(find, quads)


def _loop(packing: Packing) -> Any:
    """For larger code books LLVM would keep all look-ups of a chunk at once, on the stack."""
    return T.serial if packing.digits and packing.entries > 2 * TABLE else T.unroll


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product by integer dot products; operands: ``signature``."""
    multiply = _narrow if not packing.digits and packing.bits <= ROOM else _wide
    # With registers, as below, 3 bits take the same time and 5 bits a tenth longer.
    single = 0 if packing.digits else LANES
    of = dot.Primitives(multiply, _book_entries, loop=_loop(packing), single=single)
    return dot.dot_gemm("avx2", packing, of)


def dot_gemm_vnni(packing: Packing, mode: str) -> Any:
    """The same with ``vpdpbusd``, which takes any bytes."""
    single = 0 if packing.digits else BYTES // 4
    of = dot.Primitives(_vnni, _book_entries, loop=_loop(packing), single=single)
    return dot.dot_gemm("avxvnni", packing, of)
