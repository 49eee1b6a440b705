"""From packed codes to bytes: quads of codes (``ladder.codegen.layout``) in dwords, for dots.

Written in vectors of 16 dwords that any target splits as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import VECTORS
from ladder.codegen.kernels.vector import Expr, kept, lanes, prefetch, splat
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.element import TRITS_PER_BYTE
from ladder.ir.numerics import LUT_GROUP

EVEN_BYTES, ODD_BYTES = 0x00FF00FF, -0x00FF0100
# Bytes with the lower half of every field twice as wide as the key set.
LOWER_HALVES = {1: 0x55555555, 2: 0x33333333, 4: 0x0F0F0F0F}
UNITS_AHEAD = 16  # a unit of trits is 256 bytes; see ``common.AHEAD``


def _and(x: Expr, mask: int) -> Expr:
    return T.bitwise_and(x, splat(T.int32(mask), LANES))


def _shifted(x: Expr, by: int) -> Expr:
    return T.shift_right(x, splat(T.int32(by), LANES)) if by else x


def _merge(low: Expr, high: Expr | None, width: int) -> tuple[Expr, Expr]:
    """Fields of ``width`` bits of two vectors side by side: the even ones, and the odd ones."""
    mask = LOWER_HALVES[width]
    even, odd = _and(low, mask), _and(_shifted(low, width), mask)
    if high is not None:
        moved = T.shift_left(high, splat(T.int32(width), LANES))
        even = T.bitwise_or(even, _and(moved, ~mask))
        odd = T.bitwise_or(odd, _and(high, ~mask))
    return kept(even), kept(odd)  # left to itself, LLVM undoes the sharing of steps


def quads_of_planes(planes: list[Expr]) -> list[Expr]:
    """The planes [16] of one half tile -> quads: at 4 h + i, quad i of rows 16 h .. 16 h + 15.

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


@dataclass(frozen=True)
class Unpack:
    """How a chunk is unpacked: in ``steps``, each of which gives quads for ``vectors`` x 16 rows.

    ``emit(quads, state, planes, tile, chunk, step)`` fills quads [vectors * 16]; vector n of a
    step belongs at ``place(step, n)`` of the chunk's quads [4, 64]. ``state`` [2 * 64] is kept
    from call to call; chunks come in order.
    """

    steps: int
    vectors: int
    place: Callable[[Expr, Expr], Expr]
    emit: Any


def _unpack_planes(bits: int) -> Unpack:
    """A step is half a tile."""

    @T.inline
    def emit(quads, state, planes, tile, chunk, half):  # type: ignore[no-untyped-def]
        _fill(quads, [planes[tile, chunk, bit, half, lanes(0)] for bit in range(bits)])

    def place(half: Expr, n: Expr) -> Expr:
        return n % LUT_GROUP * TILE + half * 2 * LANES + n // LUT_GROUP * LANES

    return Unpack(2, 2 * LUT_GROUP, place, emit)


def _fill(quads: Any, planes: list[Expr]) -> None:
    for n, vector in enumerate(quads_of_planes(planes)):
        T.buffer_store(quads, vector, [lanes(n * LANES)])


def next_trits(rest: Expr) -> tuple[Expr, Expr]:
    """Bytes as 16-bit lanes -> (the digit in the high byte of each lane, what goes on)."""
    tripled = rest + rest + rest
    return tripled, _and(tripled, EVEN_BYTES)


def _unpack_trits() -> Unpack:
    """A step is a quad of all rows; ``state`` is what is left of a unit: even, then odd bytes."""

    @T.inline
    def emit(quads, state, planes, tile, chunk, i):  # type: ignore[no-untyped-def]
        quad = T.meta_var(chunk * LUT_GROUP + i)
        unit = T.meta_var(quad // TRITS_PER_BYTE)
        if quad % TRITS_PER_BYTE == 0:
            for v in T.unroll(VECTORS):
                word = T.meta_var(planes[tile, unit, v // 2, v % 2, lanes(0)])
                T.evaluate(
                    prefetch(T.address_of(planes[tile, unit + UNITS_AHEAD, 0, 0, v * LANES]))
                )
                state[lanes(v * LANES)] = _and(word, EVEN_BYTES)
                state[lanes(TILE + v * LANES)] = _and(_shifted(word, 8), EVEN_BYTES)
        for v in T.unroll(VECTORS):
            even_at = T.meta_var(lanes(v * LANES))
            odd_at = T.meta_var(lanes(TILE + v * LANES))
            even = T.meta_var(next_trits(state[even_at]))
            odd = T.meta_var(next_trits(state[odd_at]))
            quads[lanes(v * LANES)] = T.bitwise_or(
                _and(_shifted(even[0], 8), EVEN_BYTES), _and(odd[0], ODD_BYTES)
            )
            state[even_at] = even[1]
            state[odd_at] = odd[1]

    return Unpack(LUT_GROUP, VECTORS, lambda i, v: i * TILE + v * LANES, emit)


def unpack(packing: Packing) -> Unpack:
    """What turns a chunk of the type's packed codes into quads."""
    return _unpack_trits() if packing.trits else _unpack_planes(packing.bits)
