"""One token: codes are unpacked and multiplied in registers.

Unpacked codes are used only once here, so they need not go through memory. A *span* is a number of
blocks that end where a unit of codes ends: one block, or several short ones if codes share bytes.
Its code is generated in full at compile time. Longer blocks of such codes, and a last span that is
not whole, are left to ``unpack``'s staging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import (
    NEAR,
    VECTORS,
    add_digit,
    adder,
    clear,
    fetch_codes,
    fetch_line,
    read_rows,
)
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.unpack import QUADS, Finish, Permute, Words, fill_quads, words_of
from ladder.codegen.kernels.vector import Expr, lanes, shuffle, splat
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.numerics import LUT_GROUP

Multiply = Callable[[Expr, Expr, Expr], Expr]
LONGEST_SPAN = 10  # chunks


def span_of(packing: Packing) -> int:
    """Blocks of a span; 0 if none is short enough."""
    if not packing.shares_bytes or packing.whole:
        return 1
    blocks = packing.kind.unit_chunks
    return blocks if packing.chunks * blocks <= LONGEST_SPAN else 0


def four_of(q: Any, m: Expr, chunk: Expr, quad: Expr) -> Expr:
    """The four activation codes of a quad, as one int32."""
    return T.reinterpret(q[m, chunk, T.ramp(quad * LUT_GROUP, 1, LUT_GROUP)], dtype="int32")


def _fours_of(q: Any, chunk: Expr, width: int) -> list[Expr]:
    """The fours of a chunk's quads; a register of ``width`` 4 holds them all."""
    if width > QUADS:
        return [four_of(q, 0, chunk, i) for i in range(QUADS)]
    every = T.reinterpret(q[0, chunk, lanes(0)], dtype=f"int32x{QUADS}")
    return [shuffle([every], [i]) for i in range(QUADS)]


def add_span(
    packing: Packing, multiply: Multiply, finish: Finish, permute: Permute | None,
    width: int, less: int, wide: bool,
) -> Any:  # fmt: skip
    """Emits the addition of a span to the float sums ``result`` [64] of the one token.

    ``width``: dwords that are multiplied together; ``less``, ``wide``: ``dot``.
    """
    if packing.shares_bytes:
        return _add_units(packing, multiply, words_of(packing, permute))
    return _add_planes(packing, multiply, finish, width, less, wide)


def _add_planes(
    packing: Packing, multiply: Multiply, finish: Finish, width: int, less: int, wide: bool
) -> Any:
    """The span is a block. If registers are small, the second half of the rows comes after the
    first, one register at a time, because LLVM would spill more. If they are not ``wide``, codes
    are prefetched all at once, and chunks are counted from 0: both save registers."""
    parts, book, bits = max(packing.digits, 1), packing.digits > 0, packing.bits
    fill_rows, add_block = read_rows(packing, "int8"), adder(packing, "int8", less=less)
    fetch, carried, apart = fetch_codes(packing, NEAR), packing.carried, width < LANES
    longest = packing.chunks  # what the first cache keeps until the other half is read

    def add_half(sums: Any, args: Arguments, tile: Expr, chunk: Expr, half: int) -> None:
        fours, planes = _fours_of(args.q, chunk, width), args.planes
        for word in range(0, LANES, width):
            quads = T.alloc_buffer((2 * QUADS * width,), "int32")
            words = T.ramp(word, 1, width)
            fill_quads(quads, [planes[tile, chunk, b, half, words] for b in range(bits)])
            for n in range(2 * QUADS):
                row = (half * 2 + n // QUADS) * LANES + word
                for d in range(parts):
                    at = T.ramp(d * TILE + row, 1, width)
                    code = finish(args.digits, 0, d, quads[T.ramp(n * width, 1, width)], row)
                    T.buffer_store(sums, multiply(sums[at], code, fours[n % QUADS]), [at])
                if wide:
                    fetch(planes, tile, chunk, half * 2 * QUADS + n, 4 * QUADS)

    def add_chunks(sums: Any, args: Arguments, tile: Expr, first: Expr, count: Expr) -> None:
        for halves in ((0,), (1,)) if apart else ((0, 1),):
            with T.serial(first, first + count) if wide else T.serial(count) as i:
                chunk = i if wide else first + i
                if 0 in halves and not wide:
                    fetch(args.planes, tile, chunk)
                for half in halves:
                    add_half(sums, args, tile, chunk, half)

    @T.inline
    def emit(result, args, rows, run):  # type: ignore[no-untyped-def]
        sums = T.alloc_buffer((parts * TILE,), "int32")
        clear(sums, parts * TILE)
        if apart and carried:
            for part in T.serial(T.ceildiv(run.count, longest)):
                at = T.meta_var(part * longest)
                here = T.meta_var(T.min(T.int64(longest), run.count - at))
                add_chunks(sums, args, run.tile, run.first + at, here)
        else:
            add_chunks(sums, args, run.tile, run.first, run.count)
        if not carried:
            fill_rows(rows, args, run.tile, run.block)
        scale, total = T.meta_var((args.a_scale[0, run.block], args.a_total[0, run.block]))
        if book:
            whole = T.alloc_buffer((TILE,), "float32")
            clear(whole, TILE)
            for d in T.unroll(parts):
                add_digit(whole, sums, (parts - 1 - d) * TILE, 0, TILE, total, less)
            add_block(result, 0, 0, whole, 0, rows, scale, total)
        else:
            add_block(result, 0, 0, sums, 0, rows, scale, total)

    return emit


def _add_units(packing: Packing, multiply: Multiply, words: Words) -> Any:
    """Units cross the borders of blocks, so the sums of up to two blocks are kept at once."""
    fill_rows, add_block = read_rows(packing, "int8"), adder(packing, "int8")
    quads_of_block, carried = packing.chunks * QUADS, packing.carried
    per_unit = packing.kind.quads
    units = span_of(packing) * quads_of_block // per_unit

    @T.inline
    def add_vector(sums, args, tile, unit, first, u, v):  # type: ignore[no-untyped-def]
        quads = T.alloc_buffer((per_unit * LANES,), "int32")
        fetch_line(args.planes, tile, (unit + u) * VECTORS + v, NEAR)
        words(quads, args.planes[tile, unit + u, v // 2, v % 2, lanes(0)])
        for i in T.unroll(per_unit):
            quad = T.meta_var(u * per_unit + i)
            at = T.meta_var(lanes(quad // quads_of_block % 2 * TILE + v * LANES))
            four = T.meta_var(four_of(args.q, 0, first + quad // QUADS, quad % QUADS))
            sums[at] = multiply(sums[at], quads[lanes(i * LANES)], four)

    @T.inline
    def emit(result, args, rows, run):  # type: ignore[no-untyped-def]
        sums = T.alloc_buffer((2 * TILE,), "int32")
        clear(sums, 2 * TILE)
        for u in T.unroll(units):
            for v in T.unroll(VECTORS):
                unit = T.meta_var(run.first * QUADS // per_unit)
                add_vector(sums, args, run.tile, unit, run.first, u, v)
            b = T.meta_var(u * per_unit // quads_of_block)
            if (u + 1) * per_unit // quads_of_block > b:
                at = T.meta_var(b % 2 * TILE)
                if not carried:
                    fill_rows(rows, args, run.tile, run.block + b)
                scale = T.meta_var(args.a_scale[0, run.block + b])
                add_block(result, 0, 0, sums, at, rows, scale, args.a_total[0, run.block + b])
                for v in T.unroll(VECTORS):
                    sums[lanes(at + v * LANES)] = splat(T.int32(0), LANES)

    return emit
