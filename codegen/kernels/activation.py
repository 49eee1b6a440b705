"""Activations to look-up tables, bit-equal to ``ladder.ir.numerics``.

Kernels use vectors of 16 dwords without intrinsics; LLVM splits them where registers are narrower.
``parallel`` spreads the M tokens over threads, which only pays for prefill.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import (
    exact_tables_operands,
    table8_operands,
    two_planes,
)
from ladder.codegen.kernels.sources import PLAIN, Source, inverse_rms, load_block
from ladder.codegen.kernels.vector import Expr, lanes, llvm, round_to_int, splat
from ladder.codegen.layout import CHUNK, LANES, chunks_of
from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP, SMALLEST_SCALE


def largest(bits: Expr) -> Expr:
    """The largest of 16 floats >= 0, given as int32: their bits have the same order."""
    return T.reinterpret(llvm("vector.reduce.smax", "int32", bits), dtype="float32")


def _bit_of_entry(i: Expr) -> Expr:
    """Bit i of the entry numbers 0..15."""
    entry = T.ramp(T.int32(0), 1, LANES)
    return T.bitwise_and(T.shift_right(entry, splat(T.int32(i), LANES)), splat(T.int32(1), LANES))


def _signed_sum(padded: Any, start: Expr) -> Expr:
    """((±a0 ± a1) ± a2) ± a3 in table order. Products with ±1 are exact: fusing changes nothing."""
    value = None
    for j in range(LUT_GROUP):
        doubled = _bit_of_entry(j) * splat(T.int32(2), LANES) - splat(T.int32(1), LANES)
        term = splat(padded[start + j], LANES) * T.cast(doubled, "float32x16")
        value = term if value is None else value + term
    return value


def _entry_sum(q: Any, m: Expr, chunk: Expr, group: Expr) -> Expr:
    """Entry i: the sum of the codes whose bit is set in i, int32 [16]."""
    total = splat(T.int32(0), LANES)
    for j in range(LUT_GROUP):
        code = splat(T.cast(q[m, chunk, j * LUT_GROUP + group], "int32"), LANES)
        mask = splat(T.int32(0), LANES) - _bit_of_entry(j)
        total = total + T.bitwise_and(code, mask)
    return total


@T.inline
def set_scale(inverse, largest, levels):  # type: ignore[no-untyped-def]
    """inverse[1] = the scale for values up to ``largest``, inverse[0] = 1 / scale.

    Both are 0 if ``largest`` counts as zero.
    """
    inverse[1] = largest / T.float32(float(levels))
    if inverse[1] >= T.float32(float(SMALLEST_SCALE)):
        inverse[0] = T.float32(1) / inverse[1]
    else:
        inverse[1] = T.float32(0)
        inverse[0] = T.float32(0)


def loop_of(parallel: bool) -> Any:
    return T.parallel if parallel else T.serial


def name_of(base: str, source: Source, parallel: bool) -> str:
    epsilon = "" if source.epsilon is None else f"_e{source.epsilon:g}"
    return f"{source.name}{base}{epsilon}{'_parallel' if parallel else ''}"


@T.inline
def prepare(state, x, m, k, epsilon):  # type: ignore[no-untyped-def]
    """Compute what the source needs from the whole token."""
    if epsilon is not None:
        inverse_rms(state, x, m, k, epsilon)


@T.inline
def fill_tables(table, m, chunk, q, q_m, q_chunk, split):  # type: ignore[no-untyped-def]
    """Write the tables of a chunk of codes; ``split``: as two planes of bytes."""
    for j in T.unroll(CHUNK // LUT_GROUP):
        entry = T.meta_var(_entry_sum(q, q_m, q_chunk, j))
        at = T.meta_var(lanes(j * LANES))
        if split:
            high = T.meta_var(T.shift_right(entry, splat(T.int32(8), LANES)))
            table[m, chunk, 0, at] = T.cast(entry, "int8x16")
            table[m, chunk, 1, at] = T.cast(high, "int8x16")
        else:
            table[m, chunk, at] = T.cast(entry, "int8x16")


@cache
def table8(block: int, parallel: bool = False, source: Source = PLAIN) -> Any:
    """x float32 [M, K] -> table int8 [M, C, 64], half scale float32 [M, B], total int32 [M, B].

    The operands of ``source`` replace x.
    """
    name, tokens = name_of(f"table8_k{block}", source, parallel), loop_of(parallel)
    chunks, groups = chunks_of(block), CHUNK // LUT_GROUP
    load, width, epsilon = load_block(source, block), source.width, source.epsilon

    operands = table8_operands(source.operand_axes)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands))
        X, B, C = T.meta_var((args.size.X, args.size.B, args.size.C))
        K = T.meta_var(X // width if width > 1 else X)
        for m in tokens(args.size.M):
            padded = T.alloc_buffer((chunks * CHUNK,), "float32")
            inverse = T.alloc_buffer((2,), "float32")
            peak = T.alloc_buffer((LANES,), "float32")
            plus = T.alloc_buffer((LANES,), "int32")
            state = T.alloc_buffer((1,), "float32")
            prepare(state, args.x, m, K, epsilon)
            for b in T.serial(B):
                count = T.meta_var(T.min(T.int64(chunks), C - b * chunks))
                load(padded, state, args, m, b, K)
                peak[lanes(0)] = splat(T.float32(0), LANES)
                # The largest entry of a table is |a0| + |a1| + |a2| + |a3|, in the same order.
                for g in T.serial(count * groups):
                    peak[lanes(0)] = T.max(peak[lanes(0)], _signed_sum(padded, g * LUT_GROUP))
                widest = T.meta_var(largest(T.reinterpret(peak[lanes(0)], dtype="int32x16")))
                set_scale(inverse, widest, ACTIVATION_LEVELS[8])
                args.scale[m, b] = inverse[1] * T.float32(0.5)
                plus[lanes(0)] = splat(T.int32(0), LANES)
                for i in T.serial(count):
                    for j in T.unroll(groups):
                        value = T.meta_var(_signed_sum(padded, i * CHUNK + j * LUT_GROUP))
                        scaled = T.meta_var(value * splat(inverse[0], LANES))
                        entry = T.meta_var(round_to_int(scaled, "int32x16"))
                        to = T.meta_var(lanes(j * LANES))
                        args.table[m, b * chunks + i, to] = T.cast(entry, "int8x16")
                        plus[lanes(0)] = plus[lanes(0)] + entry
                args.total[m, b] = plus[LANES - 1]

    return kernel


@cache
def exact_tables(mode: str, parallel: bool = False) -> Any:
    """q int8 [M, C, 16] -> exact tables int8 [M, C, 64], or [M, C, 2, 64] with high bytes last."""
    split, tokens = two_planes(mode), loop_of(parallel)
    name = f"exact_tables_{mode if split else 'byte'}{'_parallel' if parallel else ''}"

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(exact_tables_operands(mode)))
        for m in tokens(args.size.M):
            for i in T.serial(args.size.C):
                fill_tables(args.table, m, i, args.q, m, i, split)

    return kernel
