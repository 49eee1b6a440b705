"""Low-bit products for NEON: plain, with byte dot products, and with byte matrices (i8mm).

``tbl`` looks up 16 bytes in one to four registers. Vectors of 16 dwords take four registers.
Products take signed bytes: 128 is subtracted from 8-bit codes and digits, and ``dot`` corrects it.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import dot, lut_dots, lut_planes
from ladder.codegen.kernels.lut_dots import (
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    TABLE_OF_BYTE,
    Primitives,
    Weigh,
)
from ladder.codegen.kernels.vector import (
    Expr,
    lanes,
    llvm,
    quarters,
    repeated,
    shuffle,
    splat,
    width_of,
)
from ladder.codegen.layout import LANES, Packing
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.numerics import LUT_GROUP

BYTES, WORDS = 16, 4  # of a register
REGISTERS = 4  # of tbl's table
# Up to these bits LLVM spills less with four registers at a time than with one, without sdot.
LEAST_SPILLED = 4


def _bytes(x: Expr) -> Expr:
    return T.reinterpret(x, dtype="int8x16")


def _words(x: Expr) -> Expr:
    return T.reinterpret(x, dtype="int32x4")


def _registers(table: Expr, count: int) -> list[Expr]:
    """A vector of bytes as vectors of 16."""
    return [shuffle([table], [*range(i * BYTES, (i + 1) * BYTES)]) for i in range(count)]


def _tbl(registers: list[Expr], index: Expr) -> Expr:
    """The bytes at the places ``index`` [16], 0 beyond the table."""
    name = f"aarch64.neon.tbl{len(registers)}.v16i8"
    return llvm(name, "int8x16", *registers, index)


def _index(plane: Expr, high: Expr) -> Expr:
    """The low or the high nibbles of a vector of bytes."""
    size = 4 * LANES
    shifted = T.shift_right(plane, splat(T.cast(high * 4, "uint8"), size))
    return T.bitwise_and(shifted, splat(T.uint8(15), size))


# Look-ups in four tables at once, weighted by dot products


def _look_up(table: Expr, plane: Expr, high: Expr) -> Expr:
    registers = _registers(table, REGISTERS)
    nibbles = T.reinterpret(_index(T.reinterpret(plane, dtype="uint8x64"), high), dtype="int32x16")
    index = T.bitwise_or(nibbles, splat(T.int32(TABLE_OF_BYTE), LANES))
    found = quarters(lambda part: _words(_tbl(registers, _bytes(part))), index)
    return T.reinterpret(found, dtype="int8x64")


def _dot(name: str, swapped: bool = False) -> Any:
    """sdot, udot or usdot (whose first bytes are unsigned) of sums, entries and powers."""

    def add(sums: Expr, entries: Expr, powers: Expr) -> Expr:
        of_sums = (T.reinterpret(x, dtype=f"int32x{width_of(sums)}") for x in (entries, powers))
        a, b = reversed([*of_sums]) if swapped else of_sums
        return quarters(
            lambda acc, x, y: llvm(
                f"aarch64.neon.{name}.v4i32.v16i8", "int32x4", acc, _bytes(x), _bytes(y)
            ),
            sums,
            a,
            b,
        )

    return add


UNSIGNED = Weigh(_dot("udot"), LARGEST_UNSIGNED)
DOTS = Primitives(_look_up, Weigh(_dot("sdot"), LARGEST_SIGNED), UNSIGNED, 1, T.serial)
MIXED_DOTS = Primitives(
    _look_up, Weigh(_dot("usdot", swapped=True), LARGEST_UNSIGNED), UNSIGNED, 1, T.serial
)


def lut_gemm_dots(packing: Packing, mode: str) -> Any:
    """The product by table look-ups and ``sdot``; operands: ``signature``."""
    return lut_dots.lut_gemm("dotprod", packing, mode, DOTS)


def lut_gemm_mixed_dots(packing: Packing, mode: str) -> Any:
    """The same with ``usdot``."""
    return lut_dots.lut_gemm("i8mm", packing, mode, MIXED_DOTS)


# Look-ups in one table, sums of int16


def _add_chunk(split: bool) -> Any:
    def add_half(acc: Any, groups: Any, table: Any, m: Expr, chunk: Expr, row: int) -> None:
        for high in range(2):
            total = None
            for j in range(LUT_GROUP):
                index = _index_of(groups, j, high)
                at = lanes(j * LANES)
                if split:
                    low, top = (_tbl([table[m, chunk, part, at]], index) for part in range(2))
                    order = [i + side for i in range(BYTES) for side in (0, BYTES)]
                    entry = T.reinterpret(shuffle([low, top], order), dtype="int16x16")
                else:
                    entry = T.cast(_tbl([table[m, chunk, at]], index), "int16x16")
                total = entry if total is None else total + entry
            to = lanes(row + high * LANES)
            T.buffer_store(acc, acc[to] + total, [to])

    def add_chunk(
        acc: Any, table: Any, planes: Any, m: Expr, tile: Expr, chunk: Expr, bit: Expr
    ) -> None:
        for half in range(2):
            groups = T.alloc_buffer((LUT_GROUP * BYTES,), "uint8")
            pairs = T.reinterpret(planes[tile, chunk, bit, half, lanes(0)], dtype="uint8x64")
            for j in range(LUT_GROUP):  # ld4: the bytes of one table group next to each other
                of_group = shuffle([pairs], [*range(j, 4 * LANES, LUT_GROUP)])
                T.buffer_store(groups, of_group, [lanes(j * BYTES)])
            add_half(acc, groups, table, m, chunk, half * 2 * LANES)

    return add_chunk


def _index_of(groups: Any, group: int, high: int) -> Expr:
    pairs = groups[lanes(group * BYTES)]
    four = splat(T.uint8(4), BYTES)
    nibbles = (
        T.shift_right(pairs, four) if high else T.bitwise_and(pairs, splat(T.uint8(15), BYTES))
    )
    return T.reinterpret(nibbles, dtype="int8x16")


def lut_gemm(packing: Packing, mode: str) -> Any:
    """The product by table look-ups alone; operands: ``signature``."""

    def widened(acc: Expr) -> Expr:
        return T.cast(acc, "int32x16")

    return lut_planes.lut_gemm("neon", packing, mode, _add_chunk, widened)


# Integer dot products


def _multiply(sums: Expr, quads: Expr, four: Expr) -> Expr:
    """smull, addp, sadalp: a product is at most 2^14, and two of them fit an int16."""
    signed = shuffle([_bytes(splat(four, 4))], [*range(8)])

    def add(sums: Expr, quads: Expr) -> Expr:
        codes = _bytes(quads)
        low, high = (
            llvm("aarch64.neon.smull.v8i16", "int16x8", shuffle([codes], [*half]), signed)
            for half in (range(8), range(8, 16))
        )
        pairs = llvm("aarch64.neon.addp.v8i16", "int16x8", low, high)
        return sums + llvm("aarch64.neon.saddlp.v4i32.v8i16", "int32x4", pairs)

    return quarters(add, sums, quads)


def _multiply_dots(sums: Expr, quads: Expr, four: Expr) -> Expr:
    return _dot("sdot")(sums, quads, splat(four, width_of(sums)))


def _multiply_mixed_dots(sums: Expr, quads: Expr, four: Expr) -> Expr:
    return _dot("usdot")(sums, quads, splat(four, width_of(sums)))


def _multiply_matrices(sums: Expr, rows: Expr, tokens: Expr) -> Expr:
    both = T.reinterpret(tokens, dtype="int8x16")

    def add(acc: Expr, rows: Expr) -> Expr:
        return llvm("aarch64.neon.usmmla.v4i32.v16i8", "int32x4", acc, _bytes(rows), both)

    return quarters(add, sums, rows)


def _book_entries(signed: bool) -> Any:
    """tbl for up to 64 entries, tbx for every 64 more; ``signed``: entries minus 128."""
    change = DIGIT_OFFSET if signed else 0

    def part(digits: Any, d: Expr, entries: int, start: int) -> list[Expr]:
        width = min(entries - start, BYTES * REGISTERS)
        count = max(width // BYTES, 1)
        size = count * BYTES
        table = digits[d, T.ramp(start, 1, width)]
        if width < BYTES:
            table = repeated(table, width, BYTES // width)
        table = T.bitwise_xor(table, splat(T.uint8(change), size)) if change else table
        return _registers(T.reinterpret(table, dtype=f"int8x{size}"), count)

    def find(digits: Any, d: Expr, entries: int, quads: Expr) -> Expr:
        def one(quads: Expr) -> Expr:
            index = _bytes(quads)
            found = _tbl(part(digits, d, entries, 0), index)
            for start in range(BYTES * REGISTERS, entries, BYTES * REGISTERS):
                moved = index - splat(T.int8((start + 128) % 256 - 128), BYTES)
                registers = part(digits, d, entries, start)
                found = llvm("aarch64.neon.tbx4.v16i8", "int8x16", found, *registers, moved)
            return _words(found)

        return quarters(one, quads)

    return find


def _options(packing: Packing) -> dict[str, Any]:
    """Code books larger than a register are read from memory for each vector of codes. With those
    too large for one look-up, one token has no code of its own: LLVM would spill its registers."""
    entries = packing.entries if packing.digits else 0
    return {
        "loop": T.unroll if entries <= BYTES else T.serial,
        "single": WORDS if entries <= BYTES * REGISTERS else 0,
    }


def dot_gemm(packing: Packing, mode: str) -> Any:
    """The product by widening multiplications; operands: ``signature``."""
    look_up, options = _book_entries(signed=True), _options(packing)
    if packing.bits <= LEAST_SPILLED and not packing.digits:
        options["single"] = LANES
    return dot.dot_gemm("neon", packing, dot.Primitives(_multiply, look_up, **options, signed=True))


def dot_gemm_dots(packing: Packing, mode: str) -> Any:
    """The same by ``sdot``."""
    look_up, options = _book_entries(signed=True), _options(packing)
    of = dot.Primitives(_multiply_dots, look_up, **options, signed=True)
    return dot.dot_gemm("dotprod", packing, of)


def dot_gemm_mixed_dots(packing: Packing, mode: str) -> Any:
    """The same by ``usdot``, of more than one token by ``usmmla``."""
    look_up, options = _book_entries(signed=False), _options(packing)
    multiply, matrix = _multiply_mixed_dots, _multiply_matrices
    return dot.dot_gemm(
        "i8mm", packing, dot.Primitives(multiply, look_up, **options, matrix=matrix)
    )
