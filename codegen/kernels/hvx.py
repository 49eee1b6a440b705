"""Look-up products for Hexagon's vector unit (HVX, 128-byte vectors).

A vector holds one bit plane of a tile and chunk: 32 dwords, each with the indices of four table
groups, of one row in the low nibbles and of another in the high ones. ``vlut32`` has 32 entries, so
two of them serve the four tables; ``vrmpy`` with the constant 2^bit sums the four look-ups of a row
and weights the bit, exactly, into int32. The scalar unit then combines blocks in float32.

Operands: ``signature``. Buffers begin at multiples of 128 bytes, and may be read up to the end of
the last vector.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import scalar
from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import Operands, accelerator_operands, two_planes
from ladder.codegen.kernels.unpack import words_of
from ladder.codegen.kernels.vector import Expr, llvm, splat
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.numerics import LUT_GROUP

WORDS = 32  # of a vector
BYTES = 128
LOW_NIBBLES = 0x0F0F0F0F
# The upper bits of an index select the half of the table for vlut32: 32 entries at the even bytes,
# or at the odd ones.
TABLE_OF_BYTE, OF_ODD_BYTES = 0x30201000, 0x40404040
EVERY_BYTE = 0x01010101

# LLVM fuses products that it recognizes; the fence of other targets cannot be compiled for Hexagon.
MACHINE = scalar.Machine(
    "hvx",
    lambda count, axis: T.serial(count),
    lambda a, b: llvm("hexagon.F2.sfmpy", "float32", a, b),
    lambda a, b: a / b,
    "global",
)


def _v6(name: str, *operands: Expr) -> Expr:
    """An HVX instruction on vectors of dwords."""
    return llvm(f"hexagon.V6.{name}.128B", f"int32x{WORDS}", *operands)


def _words(start: Expr) -> Expr:
    return T.ramp(start, 1, WORDS)


def _look_up(table: Expr, nibbles: Expr, odd: Expr) -> Expr:
    """The entries at ``nibbles``, in the even bytes of ``table`` or in the ``odd`` ones."""
    upper = T.bitwise_or(T.int32(TABLE_OF_BYTE), T.int32(OF_ODD_BYTES) * odd)
    index = T.bitwise_or(nibbles, splat(upper, WORDS))
    found = _v6("vlutvvb", index, table, 2 * odd)
    return _v6("vlutvvb.oracc", found, index, table, 2 * odd + 1)


def _nibbles(plane: Expr, high: Expr) -> Expr:
    """The low or the high nibble of every byte."""
    moved = T.shift_right(plane, splat(T.cast(high * 4, "int32"), WORDS))
    return T.bitwise_and(moved, splat(T.int32(LOW_NIBBLES), WORDS))


def _weight(bit: Expr) -> Expr:
    """2^bit in every byte."""
    power = T.cast(T.shift_left(T.int32(1), bit), "uint32") * T.uint32(EVERY_BYTE)
    return T.reinterpret(splat(power, WORDS), dtype=f"int32x{WORDS}")


def _interleaved(vector: Expr) -> Expr:
    """The first 64 bytes of a vector at the even places, the others at the odd ones."""
    return _v6("vshuffb", T.reinterpret(vector, dtype=f"int32x{WORDS}"))


def _one_plane(bits: int) -> Any:
    """Tables of one byte: a vector holds those of two chunks."""

    @T.inline
    def accumulate(sums, table, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        for h in T.unroll(2):
            sums[_words(h * WORDS)] = splat(T.int32(0), WORDS)
        for i in T.serial(count):
            chunk = T.meta_var(m * planes.shape[1] + first + i)
            both = T.meta_var(_interleaved(table[chunk // 2, T.ramp(0, 1, BYTES)]))
            for bit in T.unroll(bits):
                for h in T.unroll(2):
                    plane = T.meta_var(planes[tile, first + i, bit, _words(0)])
                    found = T.meta_var(_look_up(both, _nibbles(plane, h), chunk % 2))
                    at = T.meta_var(_words(h * WORDS))
                    weight = T.meta_var(_weight(bit))
                    sums[at] = _v6("vrmpybusv.acc", sums[at], weight, found)

    return accumulate


def _two_planes(bits: int) -> Any:
    """Tables of 16 bits: low bytes unsigned, high bytes signed."""

    @T.inline
    def accumulate(sums, table, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        top = T.alloc_buffer((TILE,), "int32")
        for h in T.unroll(2):
            sums[_words(h * WORDS)] = splat(T.int32(0), WORDS)
            top[_words(h * WORDS)] = splat(T.int32(0), WORDS)
        for i in T.serial(count):
            chunk = T.meta_var(m * planes.shape[1] + first + i)
            both = T.meta_var(_interleaved(table[chunk, T.ramp(0, 1, BYTES)]))
            for bit in T.unroll(bits):
                for h in T.unroll(2):
                    plane = T.meta_var(planes[tile, first + i, bit, _words(0)])
                    nibbles = T.meta_var(_nibbles(plane, h))
                    at = T.meta_var(_words(h * WORDS))
                    weight = T.meta_var(_weight(bit))
                    low = T.meta_var(_look_up(both, nibbles, T.int32(0)))
                    high = T.meta_var(_look_up(both, nibbles, T.int32(1)))
                    sums[at] = _v6("vrmpyubv.acc", sums[at], low, weight)
                    top[at] = _v6("vrmpybusv.acc", top[at], weight, high)
        for h in T.unroll(2):
            at = T.meta_var(_words(h * WORDS))
            sums[at] = sums[at] + T.shift_left(top[at], splat(T.int32(8), WORDS))

    return accumulate


def _by_nibble(row: Expr) -> Expr:
    """The place of a row's sum: rows of the low nibbles come first."""
    return row // LANES % 2 * WORDS + row // WORDS * LANES + row % LANES


def _add_quads(sums: Any, q: Any, m: Expr, chunk: Expr, i: Expr, codes: list[Expr]) -> None:
    """Add quad i of a chunk by vrmpy: ``codes`` are those of the two vectors of sums."""
    bytes_ = q[m, chunk, T.ramp(i * LUT_GROUP, 1, LUT_GROUP)]
    four = splat(T.reinterpret(bytes_, dtype="int32"), WORDS)
    for h, quads in enumerate(codes):
        at = _words(h * WORDS)
        T.buffer_store(sums, _v6("vrmpybusv.acc", sums[at], quads, four), [at])


def _quads_of_planes(packing: Packing) -> Any:
    """Adds a block of codes in bit planes: bits i of all planes are quad i of the low nibbles."""

    def quads(planes: Any, tile: Expr, chunk: Expr, place: Expr) -> Expr:
        made: Expr = splat(T.int32(0), WORDS)
        for bit in range(packing.bits):
            moved = T.shift_right(planes[tile, chunk, bit, _words(0)], splat(place, WORDS))
            one = T.bitwise_and(moved, splat(T.int32(EVERY_BYTE), WORDS))
            made = T.bitwise_or(made, T.shift_left(one, splat(T.int32(bit), WORDS)))
        return made

    @T.inline
    def accumulate(sums, q, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        for c in T.serial(count):
            for i in T.unroll(LUT_GROUP):
                both = T.meta_var([quads(planes, tile, first + c, 4 * h + i) for h in range(2)])
                _add_quads(sums, q, m, first + c, i, both)

    return accumulate


def _quads_of_units(packing: Packing) -> Any:
    """Adds a block of codes that share bytes: their units cross the borders of blocks."""
    words, per_unit = words_of(packing, None), packing.kind.quads

    @T.inline
    def decode(low, high, planes, tile, unit):  # type: ignore[no-untyped-def]
        words(low, planes[tile, unit, 0, _words(0)], WORDS)
        words(high, planes[tile, unit, 1, _words(0)], WORDS)

    @T.inline
    def accumulate(sums, q, planes, m, tile, first, count):  # type: ignore[no-untyped-def]
        low = T.alloc_buffer((per_unit * WORDS,), "int32")
        high = T.alloc_buffer((per_unit * WORDS,), "int32")
        for c in T.serial(count):
            for i in T.serial(LUT_GROUP):
                quad = T.meta_var((first + c) * LUT_GROUP + i)
                at = T.meta_var(_words(quad % per_unit * WORDS))
                if quad % per_unit == 0 or c + i == 0:
                    decode(low, high, planes, tile, quad // per_unit)
                _add_quads(sums, q, m, first + c, i, [low[at], high[at]])

    return accumulate


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product of activation codes by vrmpy, for integer types; one token at a time."""
    scalar.check_mode("int8")
    add = (_quads_of_units if packing.shares_bytes else _quads_of_planes)(packing)
    place = (lambda row: row) if packing.shares_bytes else _by_nibble

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        for h in T.unroll(2):
            sums[_words(h * WORDS)] = splat(T.int32(0), WORDS)
        add(sums, args.activation, args.planes, m, tile, first, count)

    return _product("dot_gemm", packing, "int8", accumulate, place)


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups."""
    scalar.check_mode(mode)
    split = two_planes(mode)
    add = (_two_planes if split else _one_plane)(packing.bits)

    @T.inline
    def accumulate(sums, args, m, tile, first, count):  # type: ignore[no-untyped-def]
        table = T.meta_var(args.activation)
        size = T.meta_var(T.ceildiv(table.shape[0] * table.shape[1], 1 if split else 2))
        tables = T.decl_buffer((size, BYTES), "int8", data=table.data, align=BYTES)
        add(sums, tables, args.planes, m, tile, first, count)

    return _product("lut_gemm", packing, mode, accumulate, _by_nibble)


def operands(op: str, packing: Packing, mode: str) -> Operands:
    """The operands of a product; a vector holds a whole line of planes."""
    return accelerator_operands(op, packing, mode, (2 * LANES,))


def _product(op: str, packing: Packing, mode: str, accumulate: Any, place: Any) -> Any:
    """A product around ``accumulate(sums, args, m, tile, first, count)``.

    It fills ``sums`` [64] int32 with the integer sums of ``count`` chunks, row r at ``place(r)``.
    """
    chunks, aligned = packing.chunks, {"activation": BYTES, "planes": BYTES}
    name = "_".join([op, "hvx", *([mode] if op == "lut_gemm" else []), str(packing)])

    @T.inline
    def add_block(result, sums, args, m, tile, block):  # type: ignore[no-untyped-def]
        for row in T.serial(TILE):
            result[row] = scalar.combined(
                MACHINE,
                packing,
                mode,
                args,
                result[row],
                sums[place(row)],
                (tile, block, row),
                args.a_scale[m, block],
                args.a_total[m, block],
            )

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands(op, packing, mode), "int32", aligned=aligned))
        N, C = T.meta_var((args.size.N, args.size.C))
        for tile in T.serial(args.size.NT):
            for m in T.serial(args.size.M):
                result = T.alloc_buffer((TILE,), "float32")
                sums = T.alloc_buffer((TILE,), "int32")
                for row in T.serial(TILE):
                    result[row] = T.float32(0)
                for block in T.serial(args.size.B):
                    first = T.meta_var(block * chunks)
                    accumulate(sums, args, m, tile, first, T.min(chunks, C - first))
                    add_block(result, sums, args, m, tile, block)
                for row in T.serial(T.min(TILE, N - tile * TILE)):
                    args.out[m, tile * TILE + row] = result[row]

    return kernel
