"""Unpacks codes to bytes: quads of codes (``ladder.codegen.layout``) in dwords, for dot products.

The code uses vectors of 16 dwords, which any target can split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script import tirx as T

from ladder.codegen.kernels.common import VECTORS
from ladder.codegen.kernels.vector import Expr, const, kept, lanes, shuffle, splat, typed, width_of
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.numerics import LUT_GROUP
from ladder.ir.storage import TRITS

QUADS = CHUNK // LUT_GROUP  # of a chunk
BYTES = 64  # of a vector of 16 dwords
# Bytes in which the lower half of every field of twice the key's width is set.
LOWER_HALVES = {1: 0x55555555, 2: 0x33333333, 4: 0x0F0F0F0F}
# (n * weight + more) >> shift is n, for n = 0, 1, 2 and every weight of a trit except the last.
QUOTIENTS = ((0, 6), (8, 5), (0, 3), (2, 2))
CODE_OF_TRIT = 0x03030303


def _int(value: int, width: int) -> Expr:
    return const(T.int32(value), width)


def _and(x: Expr, mask: int) -> Expr:
    return T.bitwise_and(x, splat(T.int32(mask), width_of(x)))


def _shifted(x: Expr, by: int) -> Expr:
    return T.shift_right(x, splat(T.int32(by), width_of(x))) if by else x


def _merge(low: Expr, high: Expr | None, width: int) -> tuple[Expr, Expr]:
    """Fields of ``width`` bits of two vectors, joined: the even ones, and the odd ones."""
    mask = LOWER_HALVES[width]
    even, odd = _and(low, mask), _and(_shifted(low, width), mask)
    if high is not None:
        moved = T.shift_left(high, splat(T.int32(width), width_of(high)))
        even = T.bitwise_or(even, _and(moved, ~mask))
        odd = T.bitwise_or(odd, _and(high, ~mask))
    dtype = typed("int32", width_of(low))
    return kept(even, dtype), kept(odd, dtype)  # otherwise LLVM would undo the sharing of steps


def quads_of_planes(planes: list[Expr]) -> list[Expr]:
    """The planes [16] of one half tile -> quads: at 4 h + i, quad i of rows 16 h .. 16 h + 15.

    For narrower registers, planes may be some neighbouring dwords.

    This is a transposition of bits: neighbouring planes are merged until a field holds a whole
    code. Vector p has the codes whose bits were at places p, p + width, ... of a byte.
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


Words = Callable[..., None]
Permute = Callable[[Expr, Expr], Expr]  # bytes of a table [64] by the low six bits of others
Finish = Callable[[Any, Any, Expr, Expr, Expr], Expr]


def _trits_by_minima(quads: Any, words: Expr, width: int = LANES) -> None:
    """Writes the five quads [5 * width] of a vector of trits, on any target.

    The remainder is the smallest of a byte, the byte minus the weight, and the byte minus twice
    the weight: negative bytes wrap around to large ones.
    """
    at = [T.ramp(i * width, 1, width) for i in range(TRITS.per_byte)]
    dwords, unsigned = f"int32x{width}", f"uint8x{4 * width}"
    T.buffer_store(quads, words, [at[0]])
    for i, (weight, (more, shift)) in enumerate(zip(TRITS.weights, QUOTIENTS, strict=False)):
        rest = T.reinterpret(quads[at[i]], dtype=unsigned)
        once, twice = (rest - splat(T.uint8(n * weight), 4 * width) for n in (1, 2))
        left = T.min(T.min(rest, once), twice)
        T.buffer_store(quads, T.reinterpret(left, dtype=dwords), [at[i + 1]])
        left = T.reinterpret(quads[at[i + 1]], dtype=unsigned)
        taken = T.reinterpret(rest - left + splat(T.uint8(more), 4 * width), dtype=dwords)
        T.buffer_store(quads, _and(_shifted(taken, shift), CODE_OF_TRIT), [at[i]])


def _constant(entries: Sequence[int]) -> Expr:
    """64 bytes, zeros after the ``entries``."""
    words = np.array([*entries, *[0] * (BYTES - len(entries))], np.uint8).view(np.int32)
    numbers = [T.int32(int(word)) for word in words]
    return T.reinterpret(shuffle(numbers, [*range(LANES)]), dtype="int8x64")


def _trits_by_tables(permute: Permute) -> Words:
    """The same by look-ups: the first two codes by the upper six bits of a byte.

    The remainder is less than 28, and is the index for the other three.
    """

    def emit(quads: Any, words: Expr) -> None:
        upper = T.reinterpret(T.shift_right(words, splat(T.int32(2), LANES)), dtype="int8x64")
        first, second, *others = TRITS.weights
        of_upper = [(4 * i // first, 4 * i % first // second) for i in range(BYTES)]
        taken = _constant([a * first + b * second for a, b in of_upper])
        rest = T.reinterpret(words, dtype="int8x64") - permute(taken, upper)
        tables = [(_constant([pair[i] for pair in of_upper]), upper) for i in range(2)]
        tables += [(_constant([i // weight % 3 for i in range(second)]), rest) for weight in others]
        for i, (table, index) in enumerate(tables):
            found = T.reinterpret(permute(table, index), dtype="int32x16")
            T.buffer_store(quads, found, [lanes(i * LANES)])

    return emit


def _trit(word: Expr, byte: Expr, digit: Expr, width: int) -> Expr:
    """Code ``digit`` of a byte of ``word``, from what larger weights leave (28 is not 9 n)."""
    first, second, *others = TRITS.weights
    moved = T.shift_right(word, const(T.cast(8 * byte, "int32"), width))
    number = T.bitwise_and(moved, _int(255, width))
    for divisors in ((256, 256, *[second] * len(others)), (256, first, second, *others[:-1])):
        by = _one_of(divisors, digit)
        number = number - _quotient(number, by, width) * const(by, width)
    return _quotient(number, _one_of(TRITS.weights, digit), width)


def _one_of(values: Sequence[int], index: Expr) -> Expr:
    chosen = T.int32(values[0])
    for i, value in enumerate(values[1:], 1):
        chosen = T.Select(index == i, T.int32(value), chosen)
    return chosen


def _quotient(number: Expr, divisor: Expr, width: int) -> Expr:
    """``number`` // ``divisor``, both at most 256: exact by a reciprocal of 16 bits."""
    reciprocal = T.truncdiv(T.int32(65535) + divisor, divisor)
    return T.shift_right(number * const(reciprocal, width), _int(16, width))


def _trits_of_byte(byte: Expr) -> Expr:
    """The five codes of a byte, two bits each."""
    rest, made = byte, T.int32(0)
    for i, weight in enumerate(TRITS.weights):
        made = T.bitwise_or(made, T.shift_left(rest // weight, T.int32(2 * i)))
        rest = rest % weight
    return T.cast(made, "int16")


@dataclass(frozen=True)
class SharedBytes:
    """Functions that read codes that share bytes.

    ``words(quads, words, width)`` fills a unit's quads [quads, width] from a vector of its bytes,
    on any target; ``by_tables`` does so with a ``Permute``. ``one(word, byte, digit, width)`` is
    one code of a byte, ``of_byte`` has all of them next to each other in an int16.
    """

    words: Words
    by_tables: Callable[[Permute], Words]
    one: Callable[[Expr, Expr, Expr, int], Expr]
    of_byte: Callable[[Expr], Expr]


SHARED = {
    TRITS.name: SharedBytes(_trits_by_minima, _trits_by_tables, _trit, _trits_of_byte),
}


def words_of(packing: Packing, permute: Permute | None) -> Words:
    """The function that unpacks a vector of bytes that codes share; None for bit planes."""
    if not packing.shares_bytes:
        return lambda *_: None
    shared = SHARED[packing.storage]
    return shared.words if permute is None else shared.by_tables(permute)


def code_at(
    packing: Packing, planes: Expr, tile: Expr, chunk: Expr, place: Expr,
    vector: Expr, lane: Expr, width: int = LANES,
) -> Expr:  # fmt: skip
    """The codes of weight ``place`` of a chunk, int32: of row ``lane`` of 16-row ``vector``."""
    group, i = place // LUT_GROUP, place % LUT_GROUP
    if packing.shares_bytes:
        quad, quads = chunk * LUT_GROUP + i, packing.kind.quads
        word = planes[tile, quad // quads, vector // 2, vector % 2, lane]
        return SHARED[packing.storage].one(word, group, quad % quads, width)
    shift = const(T.cast(8 * group + 4 * (vector % 2) + i, "int32"), width)
    code = _int(0, width)
    for bit in range(packing.bits):
        word = planes[tile, chunk, bit, vector // 2, lane]
        one = T.bitwise_and(T.shift_right(word, shift), _int(1, width))
        code = T.bitwise_or(code, T.shift_left(one, _int(bit, width)))
    return code


def stage_size(packing: Packing) -> int:
    """Dwords of a block's unpacked codes, for one digit; units may reach beyond its end."""
    beyond = packing.kind.quads - 1 if packing.shares_bytes else 0
    return (packing.chunks * QUADS + beyond) * TILE


def stage(
    packing: Packing, finish: Finish, words: Words, parts: int = 1, loop: Any = T.unroll
) -> Any:
    """Emits the unpacking of a block to ``codes``, quad by quad: dwords [``parts``, quads, 64].

    ``finish(digits, zeros, d, quad, row)`` turns the quads of 16 rows from ``row`` on into what is
    stored for part d; the buffers are those passed to ``emit``. Blocks come in order.
    """
    stage_block = _stage_units if packing.shares_bytes else _stage_planes
    return stage_block(packing, finish, words, parts, loop)


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
    """Writes ``quads_of_planes`` to a buffer [8, as many dwords]."""
    for n, vector in enumerate(quads_of_planes(planes)):
        width = width_of(vector)
        T.buffer_store(quads, vector, [T.ramp(n * width, 1, width)])


def _stage_units(packing: Packing, finish: Finish, words: Words, parts: int, loop: Any) -> Any:
    """Units cross the borders of blocks: the rest of the last one belongs to the next block."""
    quads_of_block, per_unit = packing.chunks * QUADS, packing.kind.quads

    @T.inline
    def emit(codes, planes, digits, zeros, tile, first, count):  # type: ignore[no-untyped-def]
        begin = T.meta_var(first * QUADS)
        unit = T.meta_var(T.ceildiv(begin, per_unit))
        left = T.meta_var(unit * per_unit - begin)
        for i in T.serial(left * VECTORS):
            codes[lanes(i * LANES)] = codes[lanes(quads_of_block * TILE + i * LANES)]
        for u in T.serial(T.ceildiv(begin + count * QUADS, per_unit) - unit):
            for v in T.unroll(VECTORS):
                quads = T.alloc_buffer((per_unit * LANES,), "int32")
                words(quads, planes[tile, unit + u, v // 2, v % 2, lanes(0)])
                for i in loop(per_unit):
                    at = T.meta_var((left + u * per_unit + i) * TILE + v * LANES)
                    quad = T.meta_var(quads[lanes(i * LANES)])
                    codes[lanes(at)] = finish(digits, zeros, 0, quad, v * LANES)

    return emit
