"""Steps of kernels for one number at a time, for machines whose vectors lack exact floats.

Hexagon's scalar unit and the work items of a GPU run them; bits equal ``ladder.ir.numerics``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import block_sum, scaled_sum, zero_term
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.signature import two_planes
from ladder.codegen.kernels.stored import scale_of
from ladder.codegen.kernels.vector import Expr
from ladder.codegen.layout import CHUNK, Packing
from ladder.errors import LadderError
from ladder.ir.activation import BLOCK, QUANTIZED, TABLE8
from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP, SMALLEST_SCALE

ENTRIES = 1 << LUT_GROUP
# 1.25 * 2^23: added to a small float, it leaves the nearest integer, ties to even, in the lowest
# bits. (1.5 * 2^23 needs more than seven digits, and TVM writes no more into OpenCL.)
ROUNDER, BITS_OF_ROUNDER = 10485760.0, 0x4B200000


@dataclass(frozen=True)
class Machine:
    """Steps that differ from machine to machine.

    ``product`` is a product that is not fused with a sum, ``divided`` is a quotient rounded to
    nearest, ``scope`` is that of a work item's own buffers. ``over`` is a loop with so many steps,
    either sequential or bound to an axis of work items.
    """

    name: str
    over: Callable[[Expr, str], Any]
    product: Callable[[Expr, Expr], Expr]
    divided: Callable[[Expr, Expr], Expr]
    scope: str


def check_mode(mode: str) -> None:
    """Refuse other modes: these kernels compute one scale per token and scale block."""
    if mode != TABLE8 and (mode not in QUANTIZED or QUANTIZED[mode].granularity != BLOCK):
        raise LadderError(f"activation mode '{mode}' has no kernel here; one of: int8, {TABLE8}")


def rounded_to_int(machine: Machine, x: Expr, factor: Expr) -> Expr:
    """The nearest int32 of |x * factor| < 2^21, ties to even."""
    moved = machine.product(x, factor) + T.float32(ROUNDER)
    return T.reinterpret(moved, dtype="int32") - T.int32(BITS_OF_ROUNDER)


def _scale(machine: Machine, levels: float) -> Any:
    """Emits state = (scale, its inverse), both 0 if state[0] counts as zero."""

    @T.inline
    def emit(state):  # type: ignore[no-untyped-def]
        state[0] = machine.divided(state[0], T.float32(levels))
        if state[0] >= T.float32(float(SMALLEST_SCALE)):
            state[1] = machine.divided(T.float32(1), state[0])
        else:
            state[0] = T.float32(0)
            state[1] = T.float32(0)

    return emit


def _place(chunks: Expr, i: Expr) -> tuple[Expr, Expr]:
    """(chunk, byte) of weight i of a block among activation codes, which are ordered by quads."""
    within = i % CHUNK
    return chunks + i // CHUNK, within % LUT_GROUP * LUT_GROUP + within // LUT_GROUP


def quantize_block(machine: Machine, packing: Packing, mode: str) -> Any:
    """Emits the codes, scale and total of one block of token m."""
    check_mode(mode)
    size, chunks, scope = packing.block, packing.chunks, machine.scope
    set_scale = _scale(machine, float(ACTIVATION_LEVELS[QUANTIZED[mode].bits]))

    @T.inline
    def emit(args, m, block):  # type: ignore[no-untyped-def]
        q, x = T.meta_var((args.out, args.x))
        state = T.alloc_buffer((2,), "float32", scope=scope)
        sum_ = T.alloc_buffer((1,), "int32", scope=scope)
        length = T.meta_var(T.min(x.shape[1] - block * size, size))
        state[0] = T.float32(0)
        for i in T.serial(length):
            state[0] = T.max(state[0], T.abs(x[m, block * size + i]))
        set_scale(state)
        sum_[0] = 0
        for i in T.serial(T.ceildiv(length, CHUNK) * CHUNK):
            at = T.meta_var(_place(block * chunks, i))
            q[m, at[0], at[1]] = T.int8(0)
            if i < length:
                code = T.meta_var(rounded_to_int(machine, x[m, block * size + i], state[1]))
                q[m, at[0], at[1]] = T.cast(code, "int8")
                sum_[0] = sum_[0] + T.cast(q[m, at[0], at[1]], "int32")
        args.scale[m, block] = state[0]
        args.total[m, block] = sum_[0]

    return emit


def _signed(values: Any, entry: Expr) -> Expr:
    """((±a0 ± a1) ± a2) ± a3, with + where bit j of ``entry`` is set."""
    sum_ = None
    for j in range(LUT_GROUP):
        plus = T.bitwise_and(T.shift_right(entry, T.int32(j)), T.int32(1)) == T.int32(1)
        term = T.Select(plus, values[j], -values[j])
        sum_ = term if sum_ is None else sum_ + term
    return sum_


def table8_block(machine: Machine, packing: Packing) -> Any:
    """Emits the rounded tables, half scale and total of one block of token m."""
    size, chunks, scope = packing.block, packing.chunks, machine.scope
    set_scale = _scale(machine, float(ACTIVATION_LEVELS[8]))

    @T.inline
    def load(values, x, m, block, group):  # type: ignore[no-untyped-def]
        for j in T.unroll(LUT_GROUP):
            place = T.meta_var(group * LUT_GROUP + j)
            values[j] = T.float32(0)
            if place < size and block * size + place < x.shape[1]:
                values[j] = x[m, block * size + place]

    @T.inline
    def emit(args, m, block):  # type: ignore[no-untyped-def]
        table, x = T.meta_var((args.out, args.x))
        state = T.alloc_buffer((2,), "float32", scope=scope)
        values = T.alloc_buffer((LUT_GROUP,), "float32", scope=scope)
        sum_ = T.alloc_buffer((1,), "int32", scope=scope)
        length = T.meta_var(T.min(x.shape[1] - block * size, size))
        groups = T.meta_var(T.ceildiv(length, CHUNK) * (CHUNK // LUT_GROUP))
        state[0] = T.float32(0)
        for g in T.serial(groups):
            load(values, x, m, block, g)
            for j in T.unroll(LUT_GROUP):
                values[j] = T.abs(values[j])
            state[0] = T.max(state[0], _signed(values, T.int32(ENTRIES - 1)))
        set_scale(state)
        sum_[0] = 0
        for g in T.serial(groups):
            load(values, x, m, block, g)
            for e in T.serial(ENTRIES):
                value = T.meta_var(_signed(values, T.cast(e, "int32")))
                entry = T.meta_var(rounded_to_int(machine, value, state[1]))
                at = T.meta_var(g % (CHUNK // LUT_GROUP) * ENTRIES + e)
                table[m, block * chunks + g // (CHUNK // LUT_GROUP), at] = T.cast(entry, "int8")
                if e == ENTRIES - 1:
                    sum_[0] = sum_[0] + entry
        args.scale[m, block] = state[0] * T.float32(0.5)
        args.total[m, block] = sum_[0]

    return emit


def table_entry(q: Any, m: Expr, chunk: Expr, group: Expr, entry: Expr) -> Expr:
    """An exact table's entry: the sum of the codes whose bit is set in it, int32."""
    total: Expr = T.int32(0)
    for j in range(LUT_GROUP):
        code = T.cast(q[m, chunk, j * LUT_GROUP + group], "int32")
        bit = T.bitwise_and(T.shift_right(entry, T.int32(j)), T.int32(1))
        total = total + code * bit
    return total


def exact_tables_of_chunk(mode: str) -> Any:
    """Emits the tables of a chunk of codes."""
    split = two_planes(mode)

    @T.inline
    def emit(table, q, m, chunk, at):  # type: ignore[no-untyped-def]
        entry = T.meta_var(T.cast(at, "int32"))
        value = T.meta_var(table_entry(q, m, chunk, at // ENTRIES, entry % ENTRIES))
        if split:
            table[m, chunk, 0, at] = T.cast(value, "int8")
            table[m, chunk, 1, at] = T.cast(T.shift_right(value, 8), "int8")
        else:
            table[m, chunk, at] = T.cast(value, "int8")

    return emit


def combined(
    machine: Machine, packing: Packing, mode: str, args: Arguments, result: Expr, sums: Expr,
    at: tuple[Expr, Expr, Expr], scale: Expr, total: Expr,
) -> Expr:  # fmt: skip
    """One row's result so far plus one block, as by ``numerics.combine``.

    ``at``: row tile, block, and row within the tile.
    """
    tile, block, row = at
    place = (tile, block if packing.grouped else 0, row)
    zeros = zero_term(packing, mode, args.zero[place], 1) if packing.zero else None
    whole = block_sum(packing, mode, sums, zeros, total, 0, 1, machine.product)
    scale_of_row = scale_of(packing, args.w_scale[place], args.factor, 1)
    scaled = scaled_sum(packing, whole, zeros, scale_of_row, total, 1, machine.product)
    return result + machine.product(scaled, scale)
