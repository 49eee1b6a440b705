"""From packed codes to bytes: quads of codes (``ladder.codegen.layout``) in dwords, for dots.

Written in vectors of 16 dwords that any target splits as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import VECTORS
from ladder.codegen.kernels.vector import Expr, kept, lanes, splat, typed, width_of
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.element import TRIT_WEIGHTS, TRITS_PER_BYTE
from ladder.ir.numerics import LUT_GROUP

QUADS = CHUNK // LUT_GROUP  # of a chunk
# Bytes with the lower half of every field twice as wide as the key set.
LOWER_HALVES = {1: 0x55555555, 2: 0x33333333, 4: 0x0F0F0F0F}
# (n * weight + more) >> shift is n, for n = 0, 1, 2 and every weight of a trit but the last.
QUOTIENTS = ((0, 6), (8, 5), (0, 3), (2, 2))
CODE_OF_TRIT = 0x03030303


def _and(x: Expr, mask: int) -> Expr:
    return T.bitwise_and(x, splat(T.int32(mask), width_of(x)))


def _shifted(x: Expr, by: int) -> Expr:
    return T.shift_right(x, splat(T.int32(by), width_of(x))) if by else x


def _merge(low: Expr, high: Expr | None, width: int) -> tuple[Expr, Expr]:
    """Fields of ``width`` bits of two vectors side by side: the even ones, and the odd ones."""
    mask = LOWER_HALVES[width]
    even, odd = _and(low, mask), _and(_shifted(low, width), mask)
    if high is not None:
        moved = T.shift_left(high, splat(T.int32(width), width_of(high)))
        even = T.bitwise_or(even, _and(moved, ~mask))
        odd = T.bitwise_or(odd, _and(high, ~mask))
    dtype = typed("int32", width_of(low))
    return kept(even, dtype), kept(odd, dtype)  # else LLVM undoes the sharing of steps


def quads_of_planes(planes: list[Expr]) -> list[Expr]:
    """The planes [16] of one half tile -> quads: at 4 h + i, quad i of rows 16 h .. 16 h + 15.

    Or some neighbouring dwords of them, for narrower registers.

    A transposition of bits: neighbouring planes are merged until a field holds a whole code.
    Vector p has the codes whose bits were at places p, p + width, ... of a byte.
    """
    parts, width = [[plane] for plane in planes], 1
    while len(parts) > 1:
        pairs = [(parts[i], parts[i + 1 : i + 2]) for i in range(0, len(parts), 2)]
        merged = []
        for low, high in pairs:
            others = high[0] if high else [None] * width
            both = [_merge(a, b, width) for a, b in zip(low, others, strict=True)]
            merged.append([even for even, _ in both] + [odd for _, odd in both])
        parts, width = merged, width * 2
    field = ((1 << width) - 1) * 0x01010101
    places = range(2 * LUT_GROUP)
    whole = [_shifted(parts[0][place % width], place // width * width) for place in places]
    return [_and(vector, field) if width < 8 else vector for vector in whole]


Words = Callable[[Any, Expr], None]
Finish = Callable[[Any, Any, Expr, Expr, Expr], Expr]


def trits_by_minima(quads: Any, words: Expr, width: int = LANES) -> None:
    """Five quads [5 * width] of a vector of trits, on any target.

    Of a byte, and what is left of it when a weight is taken off once or twice, the smallest is the
    remainder: below zero bytes wrap round to large ones.
    """
    at = [T.ramp(i * width, 1, width) for i in range(TRITS_PER_BYTE)]
    dwords, unsigned = f"int32x{width}", f"uint8x{4 * width}"
    T.buffer_store(quads, words, [at[0]])
    for i, (weight, (more, shift)) in enumerate(zip(TRIT_WEIGHTS, QUOTIENTS, strict=False)):
        rest = T.reinterpret(quads[at[i]], dtype=unsigned)
        once, twice = (rest - splat(T.uint8(n * weight), 4 * width) for n in (1, 2))
        left = T.min(T.min(rest, once), twice)
        T.buffer_store(quads, T.reinterpret(left, dtype=dwords), [at[i + 1]])
        left = T.reinterpret(quads[at[i + 1]], dtype=unsigned)
        taken = T.reinterpret(rest - left + splat(T.uint8(more), 4 * width), dtype=dwords)
        T.buffer_store(quads, _and(_shifted(taken, shift), CODE_OF_TRIT), [at[i]])


def stage_size(packing: Packing) -> int:
    """Dwords of a block's unpacked codes, of one digit; units of trits reach beyond its end."""
    beyond = TRITS_PER_BYTE - 1 if packing.trits else 0
    return (packing.chunks * QUADS + beyond) * TILE


def stage(
    packing: Packing, finish: Finish, trits: Words, parts: int = 1, loop: Any = T.unroll
) -> Any:
    """Emits the codes of a block to ``codes``, quad by quad: dwords [``parts``, quads, 64].

    ``finish(digits, zeros, d, quad, row)`` makes of the quads of 16 rows from ``row`` on what is
    stored for part d; the buffers are those that ``emit`` is called with. Blocks come in order.
    """
    stage_units = _stage_trits if packing.trits else _stage_planes
    return stage_units(packing, finish, trits, parts, loop)


def _stage_planes(packing: Packing, finish: Finish, _: Words, parts: int, loop: Any) -> Any:
    bits, size = packing.bits, stage_size(packing)

    @T.inline
    def emit(codes, planes, digits, zeros, tile, first, count):  # type: ignore[no-untyped-def]
        for i in T.serial(count):
            for half in T.unroll(2):
                quads = T.alloc_buffer((2 * QUADS * LANES,), "int32")
                fill_quads(
                    quads, [planes[tile, first + i, bit, half, lanes(0)] for bit in range(bits)]
                )
                for n in loop(2 * QUADS):
                    for d in T.unroll(parts):
                        row = T.meta_var((half * 2 + n // QUADS) * LANES)
                        at = T.meta_var(d * size + (i * QUADS + n % QUADS) * TILE + row)
                        quad = T.meta_var(quads[lanes(n * LANES)])
                        codes[lanes(at)] = finish(digits, zeros, d, quad, row)

    return emit


def fill_quads(quads: Any, planes: list[Expr]) -> None:
    """``quads_of_planes`` into a buffer [8, as many dwords]."""
    for n, vector in enumerate(quads_of_planes(planes)):
        width = width_of(vector)
        T.buffer_store(quads, vector, [T.ramp(n * width, 1, width)])


def _stage_trits(packing: Packing, finish: Finish, trits: Words, parts: int, loop: Any) -> Any:
    """Units know nothing of blocks: what the last one has beyond its block begins the next."""
    quads_of_block = packing.chunks * QUADS

    @T.inline
    def emit(codes, planes, digits, zeros, tile, first, count):  # type: ignore[no-untyped-def]
        begin = T.meta_var(first * QUADS)
        unit = T.meta_var(T.ceildiv(begin, TRITS_PER_BYTE))
        left = T.meta_var(unit * TRITS_PER_BYTE - begin)
        for i in T.serial(left * VECTORS):
            codes[lanes(i * LANES)] = codes[lanes(quads_of_block * TILE + i * LANES)]
        for u in T.serial(T.ceildiv(begin + count * QUADS, TRITS_PER_BYTE) - unit):
            for v in T.unroll(VECTORS):
                quads = T.alloc_buffer((TRITS_PER_BYTE * LANES,), "int32")
                trits(quads, planes[tile, unit + u, v // 2, v % 2, lanes(0)])
                for i in loop(TRITS_PER_BYTE):
                    at = T.meta_var((left + u * TRITS_PER_BYTE + i) * TILE + v * LANES)
                    quad = T.meta_var(quads[lanes(i * LANES)])
                    codes[lanes(at)] = finish(digits, zeros, 0, quad, v * LANES)

    return emit
