"""Integer-dot GEMM of every family: codes unpacked to bytes, multiplied with int8 activations.

The codes of a (row tile, scale block) are unpacked once for a panel of tokens, to quads: four bytes
in a dword. The codes of a code book are replaced by its digits there. Then ``multiply`` adds the
products of a quad for 16 rows, 4 tokens at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import (
    AHEAD,
    Rows,
    Run,
    add_digit,
    adder,
    clear,
    clear_tokens,
    combine,
    fetch_codes,
    raised,
    read_rows,
    run_of,
    runs_of,
    store,
    zero_rows_type,
)
from ladder.codegen.kernels.direct import add_span, four_of, span_of
from ladder.codegen.kernels.matrix import add_matrices, pair_quads
from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.signature import operands
from ladder.codegen.kernels.unpack import QUADS, Finish, Permute, stage, stage_size, words_of
from ladder.codegen.kernels.vector import Expr, lanes, splat, width_of
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.element import DIGIT_OFFSET

TOKENS = 4  # whose sums are in registers together
HALF = TILE // 2
PANEL = 64  # tokens that share one unpacking
SIGNS = -0x7F7F7F80  # flips the highest bit of every byte: subtracts 128, to signed bytes

Multiply = Callable[[Expr, Expr, Expr], Expr]
LookUp = Callable[[Any, Expr, int, Expr], Expr]


@dataclass(frozen=True)
class Primitives:
    """What a kernel family provides.

    ``multiply(sums, quads, four)``: int32 [16] sums plus the products of unsigned bytes (four to
    a dword, [16]) with the four int8 of ``four``. ``look_up(digits, d, entries, quads)``: every
    byte replaced by that entry of row d; ``loop`` is the loop over look-ups. ``permute``: see
    ``unpack``. ``wide``: there are 32 registers of 64 bytes. ``single``: one token has code of its
    own, for registers of so many dwords, which ``multiply`` and ``look_up`` then take as well as
    16. ``signed``: ``multiply`` takes signed bytes; ``look_up`` returns digits minus 128, and 128
    is subtracted from 8-bit codes here. ``matrix``: several tokens use ``matrix.add_matrices``.
    """

    multiply: Multiply
    look_up: LookUp
    loop: Any = T.unroll
    wide: bool = False
    single: int = 0
    signed: bool = False
    matrix: Multiply | None = None
    permute: Permute | None = None


@dataclass(frozen=True)
class Emitters:
    """Steps of a scale block: code for one token, unpacking, row values, all tokens' products."""

    direct: Any
    stage_block: Any
    fill_rows: Any
    add_panel: Any


def _add_products(packing: Packing, multiply: Multiply, count: int, apart: bool) -> Any:
    """Emits sums of a run of chunks of codes, for ``count`` tokens from ``m`` on.

    ``low`` and ``high`` are int32 [count, 32] of half the rows each, computed ``apart`` if
    registers do not hold both. With ``leads``, codes of later blocks are prefetched in between, so
    that they arrive while products are computed.
    """
    block_bytes = packing.chunks * TILE * CHUNK * packing.bits // 8
    fetch = fetch_codes(packing, near=block_bytes if block_bytes < AHEAD else 0)

    def emit(
        low: Any, high: Any, codes: Any, at: Expr, args: Arguments, m: Expr, run: Run, leads: Expr
    ) -> None:
        halves = (low, 0), (high, HALF)
        for part, _ in halves:
            clear(part, count * HALF)
        for together in [halves[:1], halves[1:]] if apart else [halves]:
            with T.serial(run.count) as i:
                with T.If(T.And(leads, together[0] is halves[0])), T.Then():
                    fetch(args.planes, run.tile, run.first + i)
                with T.unroll(QUADS) as j, T.unroll(count) as t, T.unroll(HALF // LANES) as v:
                    four = four_of(args.q, m + t, run.first + i, j)
                    row, code = lanes(t * HALF + v * LANES), at + (i * QUADS + j) * TILE + v * LANES
                    for part, half in together:
                        more = multiply(part[row], codes[lanes(code + half)], four)
                        T.buffer_store(part, more, [row])

    return emit


def _add_tokens(
    packing: Packing, multiply: Multiply, count: int, size: int, less: int, apart: bool = False
) -> Any:
    """Emits the addition of a block to the float results of ``count`` tokens from ``place`` on.

    Sums are in two buffers, because TVM keeps only small ones on the stack, where LLVM turns
    them into registers.
    """
    products = _add_products(packing, multiply, count, apart)
    add_block, digits = adder(packing, "int8", HALF, less), packing.digits

    def half(dtype: str) -> Any:
        return T.alloc_buffer((count * HALF,), dtype)

    def emit(
        result: Any, place: Expr, codes: Any, args: Arguments, rows: Rows, panel: Expr, run: Run
    ) -> None:
        m, low, high = panel + place, half("int32"), half("int32")
        if digits:
            sums = half("float32"), half("float32")
            for part in sums:
                clear(part, count * HALF)
            with T.unroll(digits) as d:
                leads, at = T.And(d == 0, place == 0), (digits - 1 - d) * size
                products(low, high, codes, at, args, m, run, leads)
                with T.unroll(count) as t:
                    for whole, part in zip(sums, (low, high), strict=True):
                        total = args.a_total[m + t, run.block]
                        add_digit(whole, part, t * HALF, t * HALF, HALF, total, less)
        else:
            sums = low, high
            products(low, high, codes, 0, args, m, run, place == 0)
        with T.unroll(count) as t:
            for part, row in zip(sums, (0, HALF), strict=True):
                scale, total = args.a_scale[m + t, run.block], args.a_total[m + t, run.block]
                add_block(result, (place + t) * TILE, row, part, t * HALF, rows, scale, total)

    return emit


def _add_fours(packing: Packing, multiply: Multiply, size: int, less: int) -> Any:
    """Emits a block for all tokens, 4 at a time; the last 5 together, because 1 alone is slow."""
    one, two, three, four, five = (
        _add_tokens(packing, multiply, count, size, less) for count in range(1, TOKENS + 2)
    )

    def emit(result: Any, tokens: Expr, *others: Any) -> None:
        more = T.if_then_else(tokens % TOKENS == 1, TOKENS + 1, tokens % TOKENS)
        rest = T.min(tokens, more)
        with T.serial((tokens - rest) // TOKENS) as i:
            four(result, i * TOKENS, *others)
        for count, add in ((1, one), (2, two), (3, three), (TOKENS + 1, five)):
            with T.If(rest == count), T.Then():
                add(result, tokens - count, *others)

    return emit


def _add_pairs(packing: Packing, multiply: Multiply, size: int, less: int) -> Any:
    """Emits a block for all tokens, 2 at a time: their sums fit 16 registers of 256 bits."""
    one = _add_tokens(packing, multiply, 1, size, less)
    two = _add_tokens(packing, multiply, 2, size, less, apart=True)

    def emit(result: Any, tokens: Expr, *others: Any) -> None:
        with T.serial(tokens // 2) as i:
            two(result, i * 2, *others)
        with T.If(tokens % 2 == 1), T.Then():
            one(result, tokens - 1, *others)

    return emit


def _whole_spans(span: int, chunks: int, blocks: Expr, all_chunks: Expr) -> Expr:
    """Spans for ``direct``: a short last block counts if a span is one block."""
    if span == 0:
        return T.int64(0)
    return blocks if span == 1 else all_chunks // (span * chunks)


def _block(packing: Packing, span: int, parts: Emitters, less: int) -> Any:
    """Emits a scale block of one run of chunks, added to float results."""
    chunks, stage_block = packing.chunks, parts.stage_block
    fill_rows, add_panel = parts.fill_rows, parts.add_panel

    @T.inline
    def emit(result, whole, codes, args, rows, tokens, m, tile, block):  # type: ignore[no-untyped-def]
        first = T.meta_var(block * chunks)
        count = T.meta_var(T.min(T.int64(chunks), args.q.shape[1] - first))
        run = T.meta_var(Run(tile, block, first, count))
        stage_block(codes, args, rows.zeros, run)
        fill_rows(rows, args, tile, block)
        add_panel(result, tokens, codes, args, rows, m, run)

    return emit


def _carry(packing: Packing, span: int, parts: Emitters, less: int) -> Any:
    """Emits a scale block whose integer sums are carried over several runs, and their conversion.

    One token is multiplied ``span`` by ``span``: planes all at once, others in units.
    """
    chunks, raise_sums = packing.chunks, raised(packing)
    add_block, direct, stage_block = (
        combine(packing, "int8", less=less),
        parts.direct,
        parts.stage_block,
    )
    fill_rows, add_panel, shared = parts.fill_rows, parts.add_panel, packing.shares_bytes

    def taken(m: Expr, count: Expr) -> Expr:
        if span == 0:
            return T.int64(0)
        return T.if_then_else(m == 1, count // chunks * chunks if shared else count, 0)

    @T.inline
    def emit(result, whole, codes, args, rows, tokens, m, tile, block):  # type: ignore[no-untyped-def]
        clear_tokens(whole, tokens)
        for run in T.serial(runs_of(packing, args.numbers)):
            where = T.meta_var(run_of(packing, args, block, run, args.q.shape[1]))
            # Bound to names: else TVM would simplify the expressions in every index that has them.
            begin: T.let = where[0]
            count: T.let = where[1]
            raise_sums(whole, tokens * TILE, args.numbers, run)
            alone: T.let = taken(args.q.shape[0], count)
            if span > 0 and shared:
                for part in T.serial(alone // chunks):
                    direct(whole, args, rows, Run(tile, block, begin + part * chunks, chunks))
            if span > 0 and not shared:
                if alone > 0:
                    direct(whole, args, rows, Run(tile, block, begin, alone))
            for part in T.serial(T.ceildiv(count - alone, chunks)):
                at = T.meta_var(alone + part * chunks)
                here = T.meta_var(T.min(T.int64(chunks), count - at))
                some = T.meta_var(Run(tile, block, begin + at, here))
                stage_block(codes, args, rows.zeros, some)
                add_panel(whole, tokens, codes, args, rows, m, some)
        fill_rows(rows, args, tile, block)
        for t in T.serial(tokens):
            add_block(result, t * TILE, 0, whole, t * TILE, rows,
                      args.a_scale[m + t, block], args.a_total[m + t, block])  # fmt: skip

    return emit


def _looked_up(packing: Packing, look_up: LookUp, less: int) -> Any:
    """What ``unpack.stage`` stores: digits of a code book, or codes, minus ``less``."""

    def finish(digits: Any, zeros: Any, d: Expr, quad: Expr, row: Expr) -> Expr:
        if packing.digits:
            return look_up(digits, d, packing.entries, quad)
        return T.bitwise_xor(quad, splat(T.int32(SIGNS), width_of(quad))) if less else quad

    return finish


def _staging(packing: Packing, finish: Finish, of: Primitives) -> Any:
    """Emits the codes of a run as quads."""
    digits = max(packing.digits, 1)
    stage_block = stage(packing, finish, words_of(packing, of.permute), digits, of.loop)

    def emit(codes: Any, args: Arguments, zeros: Any, run: Run) -> None:
        stage_block(codes, args.planes, args.digits, zeros, run.tile, run.first, run.count)
        if of.matrix is not None:
            pair_quads(codes, stage_size(packing), digits, run.count * QUADS)

    return emit


def _adding(packing: Packing, of: Primitives, less: int) -> Any:
    """Emits a block for all tokens."""
    size = stage_size(packing)
    if of.matrix is not None:
        return add_matrices(packing, of.matrix, size)
    return (_add_fours if of.wide else _add_pairs)(packing, of.multiply, size, less)


def dot_gemm(family: str, packing: Packing, of: Primitives) -> Any:
    """The product of activation codes by integer dot products, with a family's primitives."""
    chunks, carried = packing.chunks, packing.carried
    digits, size = max(packing.digits, 1), stage_size(packing)
    zeros_type = zero_rows_type(packing)
    less = DIGIT_OFFSET if of.signed and (packing.digits or packing.bits == 8) else 0
    finish = _looked_up(packing, of.look_up, less)
    span = span_of(packing) if of.single else 0
    direct = add_span(packing, of.multiply, finish, of.permute, of.single or LANES, less, of.wide)
    parts = Emitters(
        direct,
        _staging(packing, finish, of),
        read_rows(packing, "int8"),
        _adding(packing, of, less),
    )
    add_block = (_carry if carried else _block)(packing, span, parts, less)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": f"dot_gemm_{family}_{packing}", "tirx.noalias": True})
        args = T.meta_var(declare(operands("dot_gemm", packing)))
        M, B, C = T.meta_var((args.size.M, args.size.B, args.size.C))
        spans = T.meta_var(T.int64(0) if carried else _whole_spans(span, chunks, B, C))
        for tile in T.parallel(args.size.NT):
            codes = T.alloc_buffer((digits * size,), "int32")
            result = T.alloc_buffer((PANEL * TILE,), "float32")
            whole = T.alloc_buffer((PANEL * TILE if carried else LANES,), "int32")
            scales = T.alloc_buffer((TILE,), "float32")
            zeros = T.alloc_buffer((TILE,), zeros_type)
            rows = T.meta_var(Rows(scales, zeros))
            for panel in T.serial(T.ceildiv(M, PANEL)):
                m = T.meta_var(panel * PANEL)
                tokens = T.meta_var(T.min(T.int64(PANEL), M - m))
                clear_tokens(result, tokens)
                if span > 0 and not carried:
                    if M == 1:
                        for s in T.serial(spans):
                            first = T.meta_var(s * span * chunks)
                            count = T.meta_var(T.min(T.int64(span * chunks), C - first))
                            direct(result, args, rows, Run(tile, s * span, first, count))
                done = T.meta_var(T.if_then_else(M == 1, spans * span, T.int64(0)))
                for b in T.serial(B - done):
                    add_block(result, whole, codes, args, rows, tokens, m, tile, b + done)
                for t in T.serial(tokens):
                    store(args.out, m + t, tile, result, t * TILE)

    return kernel
