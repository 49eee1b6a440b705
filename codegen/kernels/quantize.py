"""Activations to the integer codes of every mode, bit-equal to ``ladder.ir.numerics`` and ``mux``.

As in ``ladder.codegen.kernels.activation``, vectors have 16 dwords, and tokens are only parallel
in prefill.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.activation import (
    fill_tables,
    largest,
    loop_of,
    name_of,
    prepare,
    set_scale,
)
from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import quantize_operands, two_planes
from ladder.codegen.kernels.sources import PLAIN, Source, load_block
from ladder.codegen.kernels.vector import Expr, lanes, llvm, round_to_int, shuffle, splat
from ladder.codegen.layout import CHUNK, LANES, PART, chunks_of
from ladder.ir.activation import BLOCK, QUANTIZED, STATIC, TENSOR, TOKEN
from ladder.ir.mux import MUXQ, Mux
from ladder.ir.numerics import LUT_GROUP

WITHOUT_SIGN = 0x7FFFFFFF
BY_QUAD = [LUT_GROUP * group + i for i in range(LUT_GROUP) for group in range(CHUNK // LUT_GROUP)]


@dataclass(frozen=True)
class Token:
    """Buffers for one token: a block's numbers, the inverse of its scale and the scale, the
    largest magnitudes so far by lane, and what the source computes from the whole token."""

    padded: Any
    inverse: Any
    peak: Any
    state: Any


def _reduced(padded: Any, small: Any, chunk: Expr, i: Expr, muxed: bool) -> Expr:
    """16 numbers of a block, with outliers scaled down as far as their digits allow."""
    numbers = padded[lanes(i * CHUNK)]
    return numbers * small[chunk + i, lanes(0)] if muxed else numbers


def _widen_peak(muxed: bool) -> Any:
    """Emits the update of the largest magnitudes by ``count`` chunks, by lane, as int32 bits."""

    @T.inline
    def emit(peak, padded, small, chunk, count):  # type: ignore[no-untyped-def]
        for i in T.serial(count):
            numbers = T.meta_var(_reduced(padded, small, chunk, i, muxed))
            bits = T.meta_var(T.reinterpret(numbers, dtype="int32x16"))
            size = T.meta_var(T.bitwise_and(bits, splat(T.int32(WITHOUT_SIGN), LANES)))
            peak[lanes(0)] = T.max(peak[lanes(0)], size)

    return emit


def _peak_of_token(load: Any, block: int, muxed: bool) -> Any:
    """Emits the largest magnitudes of a whole token, by lane."""
    chunks, widen_peak = chunks_of(block), _widen_peak(muxed)

    @T.inline
    def emit(token, args, m, k, body):  # type: ignore[no-untyped-def]
        token.peak[lanes(0)] = splat(T.int32(0), LANES)
        for b in T.serial(T.ceildiv(k, block)):
            load(token.padded, token.state, args, m, b, k)
            count = T.meta_var(T.min(T.int64(chunks), body - b * chunks))
            widen_peak(token.peak, token.padded, args.small, b * chunks, count)

    return emit


def _peak_of_all(source: Source, block: int, muxed: bool, parallel: bool) -> Any:
    """Emits the largest magnitude of all tokens to ``peaks[0]``."""
    peak_of_token = _peak_of_token(load_block(source, block), block, muxed)
    size, epsilon, tokens = chunks_of(block) * CHUNK, source.epsilon, loop_of(parallel)

    @T.inline
    def emit(peaks, args, k, body):  # type: ignore[no-untyped-def]
        for m in tokens(args.size.M):
            padded = T.alloc_buffer((size,), "float32")
            peak = T.alloc_buffer((LANES,), "int32")
            state = T.alloc_buffer((1,), "float32")
            prepare(state, args.x, m, k, epsilon)
            token = T.meta_var(Token(padded, None, peak, state))
            peak_of_token(token, args, m, k, body)
            peaks[m] = largest(peak[lanes(0)])
        for m in T.serial(1, args.size.M):
            peaks[0] = T.max(peaks[0], peaks[m])

    return emit


def _clipped(value: Expr, limit: Expr, static: bool) -> Expr:
    return T.max(T.min(value, limit), T.float32(0) * limit - limit) if static else value


def _code(value: Expr, levels: float, static: bool) -> Expr:
    """int32 [16]: rounded values, clipped before if the scale is static."""
    limit = splat(T.float32(levels), LANES)
    return round_to_int(_clipped(value, limit, static), "int32x16")


def _write_block(mode: str, tables: bool, mux: Mux | None) -> Any:
    """Emits the codes of ``count`` chunks from chunk ``to`` on; sums by lane go to ``peak``."""
    kind, split = QUANTIZED[mode], two_planes(mode)
    levels, static = float(kind.levels), kind.granularity == STATIC
    reduced = mux is not None and mux.method == MUXQ

    @T.inline
    def emit(args, token, codes, m, to, chunk, count):  # type: ignore[no-untyped-def]
        for i in T.serial(count):
            numbers = T.meta_var(_reduced(token.padded, args.small, chunk, i, reduced))
            code = T.meta_var(_code(numbers * splat(token.inverse[0], LANES), levels, static))
            quads = T.meta_var(shuffle([T.cast(code, "int8x16")], BY_QUAD))
            if tables:
                codes[0, 0, lanes(0)] = quads
                fill_tables(args.out, m, to + i, codes, 0, 0, split)
            else:
                args.out[m, to + i, lanes(0)] = quads
            token.peak[lanes(0)] = token.peak[lanes(0)] + code

    return emit


def _write_blocks(mode: str, block: int, load: Any, tables: bool, mux: Mux | None) -> Any:
    """Emits all codes of a token; those of outliers are written as ordinary ones first.

    Chunks before the ``body`` are cleared for the digits of outliers.
    """
    at_once, several, muxed = block or PART, block > 0, mux is not None
    by_block = QUANTIZED[mode].granularity == BLOCK
    chunks, levels = chunks_of(at_once), float(QUANTIZED[mode].levels)
    widen_peak, write_block = _widen_peak(muxed), _write_block(mode, tables, mux)

    @T.inline
    def emit(args, token, m, k, body):  # type: ignore[no-untyped-def]
        peak, inverse = T.meta_var((token.peak, token.inverse))
        codes = T.alloc_buffer((1, 1, CHUNK), "int8")
        front = T.meta_var(args.size.C - body)
        if muxed:
            for i in T.serial(front):
                args.out[m, i, lanes(0)] = splat(T.int8(0), LANES)
        peak[lanes(0)] = splat(T.int32(0), LANES)
        for b in T.serial(T.ceildiv(k, at_once)):
            first = T.meta_var(b * chunks)
            count = T.meta_var(T.min(T.int64(chunks), body - first))
            row = T.meta_var(b if several else T.int64(0))
            load(token.padded, token.state, args, m, b, k)
            if by_block:
                peak[lanes(0)] = splat(T.int32(0), LANES)
                widen_peak(peak, token.padded, args.small, first, count)
                set_scale(inverse, largest(peak[lanes(0)]), levels)
            if several:
                peak[lanes(0)] = splat(T.int32(0), LANES)
            args.scale[m, row] = inverse[1]
            write_block(args, token, codes, m, front + first, first, count)
            args.total[m, row] = llvm("vector.reduce.add", "int32", peak[lanes(0)])

    return emit


def _write_outliers(mode: str, mux: Mux, value_at: Any) -> Any:
    """Emits the digits of a token's outliers, whose codes ``_write_block`` wrote as one number."""
    kind, top = QUANTIZED[mode], mux.digits
    levels, static = float(kind.levels), kind.granularity == STATIC
    down, up = T.float32(1 / mux.factor), T.int32(mux.factor)
    limit = levels * (mux.reach if mux.method != MUXQ else 1)

    def whole(number: Expr, most: float) -> Expr:
        return round_to_int(_clipped(number, T.float32(most), static), "int32")

    @T.inline
    def write_digits(out, rest, m, body, aux, size):  # type: ignore[no-untyped-def]
        for d in T.unroll(top):
            higher = T.meta_var(round_to_int(T.cast(rest[0], "float32") * down, "int32"))
            rest[1] = higher
            at = T.meta_var(body if d == 0 else aux + (top - d) * size)
            out[m, at // CHUNK, at % CHUNK] = T.cast(rest[0] - rest[1] * up, "int8")
            rest[0] = rest[1]
        out[m, aux // CHUNK, aux % CHUNK] = T.cast(rest[0], "int8")

    @T.inline
    def emit(args, state, m, size):  # type: ignore[no-untyped-def]
        out, scale, total = T.meta_var((args.out, args.scale, args.total))
        outliers = T.meta_var(args.outliers)
        for o in T.serial(args.size.O):
            rest = T.alloc_buffer((2,), "int32")
            number = T.alloc_buffer((2,), "float32")
            aux, block = T.meta_var(outliers[o, 2]), T.meta_var(outliers[o, 3])
            number[0] = value_at(state, args.x, args.operand, m, outliers[o, 0], 1)
            number[1] = T.float32(0)
            if scale[m, block] > T.float32(0):
                number[1] = T.float32(1) / scale[m, block]
            if mux.method == MUXQ:
                number[0] = number[0] * T.float32(1 / mux.reach)
                rest[0] = whole(number[0] * number[1], limit)
                out[m, aux // CHUNK, aux % CHUNK] = T.cast(rest[0], "int8")
                total[m, block] = total[m, block] + rest[0] * T.int32(mux.reach - 1)
            else:
                rest[0] = whole(number[0] * number[1], limit)
                rest[1] = whole(number[0] * number[1], levels)
                total[m, block] = total[m, block] + rest[0] - rest[1]
                write_digits(out, rest, m, outliers[o, 1], aux, size)

    return emit


@cache
def quantize_activation(
    mode: str,
    block: int,
    parallel: bool = False,
    source: Source = PLAIN,
    tables: bool = False,
    mux: Mux | None = None,
) -> Any:
    """x float32 [M, K] -> q int8 [M, C, 16], scale float32 [M, B], total int32 [M, B].

    The operands of ``source`` replace x; then come ``static`` [1], the scale of static modes, and
    with ``mux`` ``small`` and ``outliers`` (``AuxLayout``). ``block`` 0: all of K. With ``tables``
    the exact tables of the codes replace q; outliers have none.
    """
    kind, muxed = QUANTIZED[mode], mux is not None
    at_once, chunks = block or PART, chunks_of(block or PART)
    tensor, by_token, is_static = (kind.granularity == g for g in (TENSOR, TOKEN, STATIC))
    base = f"quantize_activation_{mode.replace(':', '_')}_k{block}"
    base += ("_tables" if tables else "") + (f"_{mux}" if muxed else "")
    name, tokens = name_of(base, source, parallel), loop_of(parallel)
    width, levels = source.width, float(kind.levels)
    operands = quantize_operands(mode, source.operand_axes, tables, muxed)
    load, epsilon = load_block(source, at_once), source.epsilon
    peak_of_token = _peak_of_token(load, at_once, muxed)
    peak_of_all = _peak_of_all(source, at_once, muxed, parallel)
    write_blocks = _write_blocks(mode, block, load, tables, mux)
    # Without outliers, this is not emitted.
    write_outliers = _write_outliers(mode, mux or Mux(MUXQ, 1), source.value)
    digits = mux.digits if mux else 1

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands))
        M, X, C = T.meta_var((args.size.M, args.size.X, args.size.C))
        K = T.meta_var(X // width if width > 1 else X)
        body = T.meta_var(args.size.S if muxed else C)
        peaks = T.alloc_buffer((M if tensor else 1,), "float32")
        if tensor:
            peak_of_all(peaks, args, K, body)
        for m in tokens(M):
            padded = T.alloc_buffer((chunks * CHUNK,), "float32")
            inverse = T.alloc_buffer((2,), "float32")
            peak = T.alloc_buffer((LANES,), "int32")
            state = T.alloc_buffer((1,), "float32")
            token = T.meta_var(Token(padded, inverse, peak, state))
            prepare(state, args.x, m, K, epsilon)
            if tensor:
                set_scale(inverse, peaks[0], levels)
            if is_static:
                set_scale(inverse, args.static[0], 1)
            if by_token:
                peak_of_token(token, args, m, K, body)
                set_scale(inverse, largest(peak[lanes(0)]), levels)
            write_blocks(args, token, m, K, body)
            if muxed:
                write_outliers(args, state, m, (C - body) // digits * CHUNK)

    return kernel
