"""Table look-up GEMM for families with dot products of bytes (AVX-512, NEON).

The four tables of a chunk are next to each other, and a byte shuffle looks up in all of them. A
dword of a plane holds the indices of one row into them, so a dot product with the constant 2^bit
sums a row's four entries and weights the bit, exactly, into int32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import common
from ladder.codegen.kernels.common import VECTORS, fetch_ahead
from ladder.codegen.kernels.signature import two_planes
from ladder.codegen.kernels.vector import Expr, lanes, splat
from ladder.codegen.layout import LANES, TILE, Packing

TABLE_OF_BYTE = 0x30201000  # byte j of a dword indexes table j
LARGEST_SIGNED, LARGEST_UNSIGNED = 64, 128  # powers of two in a byte


@dataclass(frozen=True)
class Weigh:
    """``add(sums [16], entries [64 bytes], power [64 bytes])``: sums of four products each.

    ``largest`` is the largest power of two that fits its operand; the next one takes two steps.
    """

    add: Callable[[Expr, Expr, Expr], Expr]
    largest: int


@dataclass(frozen=True)
class Primitives:
    """What a kernel family provides; vectors have 16 dwords.

    ``look_up(table [64], plane, high)``: the table's bytes at the low or the high nibbles of a
    plane. ``signed`` weights signed entries, ``unsigned`` the low bytes of 16-bit tables.
    ``vectors`` of rows have their sums in registers at once if there are two planes of bytes.
    ``loop`` is the loop over bits: if it is unrolled, LLVM puts all look-ups first and runs out of
    32 registers of 16 bytes.
    """

    look_up: Callable[[Expr, Expr, Expr], Expr]
    signed: Weigh
    unsigned: Weigh
    vectors: int = VECTORS
    loop: Any = T.unroll


def _every_byte(value: Expr) -> Expr:
    """A vector with the same byte 0..255 everywhere."""
    dword = T.cast(value, "uint32") * T.uint32(0x01010101)
    return T.reinterpret(splat(dword, LANES), dtype="int8x64")


def _add(way: Weigh) -> Any:
    @T.inline
    def emit(sums, row, entries, bit, last):  # type: ignore[no-untyped-def]
        power = T.meta_var(T.shift_left(T.int32(1), bit))
        twice = T.meta_var(last and 1 << bit > way.largest)
        step = T.meta_var(_every_byte(T.int32(way.largest) if twice else power))
        sums[row] = way.add(sums[row], entries, step)
        if twice:
            sums[row] = way.add(sums[row], entries, step)

    return emit


def _each_bit(bits: int, of: Primitives, emit: Any, *before: Any) -> None:
    """``emit(*before, bit, last)`` for every bit; the last separately if it takes two steps."""
    power = 1 << bits - 1
    alone = power > min(of.signed.largest, of.unsigned.largest)
    with of.loop(bits - alone) as bit:
        emit(*before, bit, False)
    if alone:
        emit(*before, bits - 1, True)


def _one_plane(bits: int, of: Primitives) -> Any:
    add = _add(of.signed)

    @T.inline
    def add_bit(sums, args, m, tile, chunk, bit, last):  # type: ignore[no-untyped-def]
        fetch_ahead(args.planes, tile, chunk, bit, 0)
        for v in T.unroll(VECTORS):
            plane = T.meta_var(args.planes[tile, chunk, bit, v // 2, lanes(0)])
            entries = T.meta_var(args.table[m, chunk, T.ramp(0, 1, 64)])
            add(sums, lanes(v * LANES), of.look_up(entries, plane, v % 2), bit, last)

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        for v in T.unroll(VECTORS):
            sums[lanes(v * LANES)] = splat(T.int32(0), LANES)
        for i in T.serial(count):
            _each_bit(bits, of, add_bit, sums, args, m, tile, first + i)

    return accumulate


def _two_planes(bits: int, of: Primitives) -> Any:
    add_low, add_high, together = _add(of.unsigned), _add(of.signed), of.vectors

    @T.inline
    def add_bit(sums, high, args, m, tile, chunk, part, bit, last):  # type: ignore[no-untyped-def]
        if part == 0:
            fetch_ahead(args.planes, tile, chunk, bit, 0)
        for v in T.unroll(together):
            at = T.meta_var(part * together + v)
            plane = T.meta_var(args.planes[tile, chunk, bit, at // 2, lanes(0)])
            low = T.meta_var(args.table[m, chunk, 0, T.ramp(0, 1, 64)])
            top = T.meta_var(args.table[m, chunk, 1, T.ramp(0, 1, 64)])
            add_low(sums, lanes(at * LANES), of.look_up(low, plane, at % 2), bit, last)
            add_high(high, lanes(at * LANES), of.look_up(top, plane, at % 2), bit, last)

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        high = T.alloc_buffer((TILE,), "int32")
        for part in T.unroll(VECTORS // together):
            for v in T.unroll(together):
                row = T.meta_var(lanes((part * together + v) * LANES))
                sums[row] = splat(T.int32(0), LANES)
                high[row] = splat(T.int32(0), LANES)
            for i in T.serial(count):
                _each_bit(bits, of, add_bit, sums, high, args, m, tile, first + i, part)
            for v in T.unroll(together):
                row = T.meta_var(lanes((part * together + v) * LANES))
                sums[row] = sums[row] + T.shift_left(high[row], splat(T.int32(8), LANES))

    return accumulate


def lut_gemm(family: str, packing: Packing, mode: str, of: Primitives) -> Any:
    """The product by table look-ups; operands: ``signature``."""
    accumulate = (_two_planes if two_planes(mode) else _one_plane)(packing.bits, of)
    return common.lut_gemm(family, packing, mode, accumulate)
