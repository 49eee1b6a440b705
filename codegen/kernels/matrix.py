"""Integer-dot GEMM by small matrices of bytes (i8mm): two rows by two tokens in one instruction.

The instruction multiplies 8 bytes of K, so unpacked quads are put next to each other in pairs: of
every four rows, the first two at the place of quad 2 p, the other two at that of quad 2 p + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import (
    VECTORS,
    Rows,
    Run,
    add_digit,
    adder,
    clear,
    fetch_codes,
)
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.unpack import QUADS
from ladder.codegen.kernels.vector import Expr, lanes, shuffle
from ladder.codegen.layout import LANES, TILE, Packing

Multiply = Callable[[Expr, Expr, Expr], Expr]
TOKENS = 4  # whose sums with 16 rows are in registers together
PAIRS = QUADS // 2
WIDTH = 8  # bytes of K
FOURS = range(0, LANES, 4)
FIRST_ROWS = [i + j + side for i in FOURS for j in (0, 1) for side in (0, LANES)]
OTHER_ROWS = [i + j + side for i in FOURS for j in (2, 3) for side in (0, LANES)]
# Sums are [row 0: token 0, 1; row 1: token 0, 1], with those of rows 2 and 3 in another vector.
OF_TOKEN = [
    [i + j + t + side for i in FOURS for side in (0, LANES) for j in (0, 2)] for t in (0, 1)
]


def pair_quads(codes: Any, size: int, parts: int, quads: Expr) -> None:
    """Pair the quads of a staged block in place; it has ``parts`` digits of ``size``."""
    with T.unroll(parts) as d, T.serial(quads // 2) as i, T.unroll(VECTORS) as v:
        both = T.alloc_buffer((2 * LANES,), "int32")
        at = d * size + i * 2 * TILE + v * LANES
        places = [lanes(at), lanes(at + TILE)]
        for side, place in enumerate(places):
            T.buffer_store(both, codes[place], [lanes(side * LANES)])
        pair = [both[lanes(0)], both[lanes(LANES)]]
        for place, order in zip(places, (FIRST_ROWS, OTHER_ROWS), strict=True):
            T.buffer_store(codes, shuffle(pair, order), [place])


def _two_tokens(q: Any, first: Expr, second: Expr, chunk: Expr, pair: int) -> Expr:
    """8 activation codes of two tokens, int64 [2]."""
    at = T.ramp(pair * WIDTH, 1, WIDTH)
    return shuffle([T.reinterpret(q[m, chunk, at], dtype="int64") for m in (first, second)], [0, 1])


def _add_products(packing: Packing, multiply: Multiply, count: int) -> Any:
    """Emits the sums of ``count`` tokens with 16 rows: int32 [count / 2, 2, 16], see above."""
    fetch = fetch_codes(packing)

    def emit(
        sums: Any, codes: Any, at: Expr, args: Arguments, tokens: list[Expr],
        run: Run, vector: Expr, leads: Expr,
    ) -> None:  # fmt: skip
        clear(sums, count * LANES)
        with T.serial(run.count) as i:
            with T.If(T.And(leads, vector == 0)), T.Then():
                fetch(args.planes, run.tile, run.first + i)
            for pair in range(PAIRS):
                code = at + (i * QUADS + pair * 2) * TILE + vector * LANES
                rows = [codes[lanes(code + side * TILE)] for side in (0, 1)]
                for t in range(0, count, 2):
                    both = _two_tokens(args.q, tokens[t], tokens[t + 1], run.first + i, pair)
                    for side in (0, 1):
                        place = lanes((t + side) * LANES)
                        T.buffer_store(sums, multiply(sums[place], rows[side], both), [place])

    return emit


def _in_order(ordered: Any, sums: Any, count: int) -> None:
    """Reorders the sums by token."""
    for t in range(0, count, 2):
        pair = [sums[lanes((t + side) * LANES)] for side in (0, 1)]
        for side in (0, 1):
            T.buffer_store(ordered, shuffle(pair, OF_TOKEN[side]), [lanes((t + side) * LANES)])


def _add_tokens(packing: Packing, multiply: Multiply, count: int, size: int) -> Any:
    """Emits the addition of a block to the float results of ``count`` tokens from ``place`` on.

    Tokens beyond the last one repeat it, and their results are not stored.
    """
    products, digits = _add_products(packing, multiply, count), packing.digits
    add_block = adder(packing, "int8", LANES)

    def emit(
        result: Any, place: Expr, codes: Any, args: Arguments, rows: Rows, panel: Expr, run: Run
    ) -> None:
        tokens = [T.min(panel + place + t, args.a_total.shape[0] - 1) for t in range(count)]
        totals = [args.a_total[m, run.block] for m in tokens]
        with T.serial(VECTORS) as v:
            sums, ordered = (T.alloc_buffer((count * LANES,), "int32") for _ in range(2))
            whole = T.alloc_buffer((count * LANES,), "float32") if digits else ordered
            if digits:
                clear(whole, count * LANES)
            for d in range(max(digits, 1)):
                leads, at = T.And(d == 0, place == 0), max(digits - 1 - d, 0) * size
                products(sums, codes, at, args, tokens, run, v, leads)
                _in_order(ordered, sums, count)
                for t in range(count if digits else 0):
                    add_digit(whole, ordered, t * LANES, t * LANES, LANES, totals[t])
            for t, m in enumerate(tokens):
                add_block(result, (place + t) * TILE, v * LANES, whole, t * LANES, rows,
                          args.a_scale[m, run.block], totals[t])  # fmt: skip

    return emit


def add_matrices(packing: Packing, multiply: Multiply, size: int) -> Any:
    """Emits a block for all tokens, 4 at a time and the last ones in pairs.

    ``multiply(sums, rows, tokens)``: int32 [16] sums plus the products of 8 by 8 bytes of two rows
    (16 dwords, [row, 8] in every four) with those of two tokens (int64 [2]).
    """
    two, four = (_add_tokens(packing, multiply, count, size) for count in (2, TOKENS))

    def emit(result: Any, tokens: Expr, *others: Any) -> None:
        with T.serial(tokens // TOKENS) as i:
            four(result, i * TOKENS, *others)
        with T.serial(T.ceildiv(tokens % TOKENS, 2)) as i:
            two(result, tokens - tokens % TOKENS + i * 2, *others)

    return emit
