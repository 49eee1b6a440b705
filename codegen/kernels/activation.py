"""Activations to int8 codes or to tables, bit-equal to ``ladder.ir.numerics``.

Plain vectors of 16 dwords without intrinsics of one machine: LLVM splits them where registers are
narrower. ``parallel`` spreads the M tokens over threads, which pays for prefill only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import two_planes
from ladder.codegen.kernels.vector import Expr, lanes, llvm, round_to_int, shuffle, splat
from ladder.codegen.layout import CHUNK, LANES, chunks_of
from ladder.ir.activation import QUANTIZED
from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP, SMALLEST_SCALE

WITHOUT_SIGN = 0x7FFFFFFF
BY_QUAD = [LUT_GROUP * group + i for i in range(LUT_GROUP) for group in range(CHUNK // LUT_GROUP)]


def _largest(bits: Expr) -> Expr:
    """The largest of 16 floats >= 0, given as int32: their order is that of their bits."""
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
def _load_block(padded, x, m, block, size):  # type: ignore[no-untyped-def]
    """One block of a token, zeros behind its end to a whole chunk."""
    length = T.meta_var(T.min(T.int64(size), x.shape[1] - block * size))
    for i in T.serial(length // CHUNK):
        padded[lanes(i * CHUNK)] = x[m, lanes(block * size + i * CHUNK)]
    if length % CHUNK != 0:
        padded[lanes(length // CHUNK * CHUNK)] = splat(T.float32(0), LANES)
        for j in T.serial(length % CHUNK):
            at = T.meta_var(length // CHUNK * CHUNK + j)
            padded[at] = x[m, block * size + at]


@T.inline
def _set_scale(inverse, largest, levels):  # type: ignore[no-untyped-def]
    """inverse[1] = the scale of what is at most ``largest``, inverse[0] = 1 / scale.

    Both are 0 where it counts as zero.
    """
    inverse[1] = largest / T.float32(float(levels))
    if inverse[1] >= T.float32(float(SMALLEST_SCALE)):
        inverse[0] = T.float32(1) / inverse[1]
    else:
        inverse[1] = T.float32(0)
        inverse[0] = T.float32(0)


@T.inline
def _widen_peak(peak, padded, count):  # type: ignore[no-untyped-def]
    """The largest magnitudes so far and of ``count`` chunks, by lane, as int32 bits."""
    for i in T.serial(count):
        bits = T.meta_var(T.reinterpret(padded[lanes(i * CHUNK)], dtype="int32x16"))
        size = T.meta_var(T.bitwise_and(bits, splat(T.int32(WITHOUT_SIGN), LANES)))
        peak[lanes(0)] = T.max(peak[lanes(0)], size)


def _loop(parallel: bool) -> Any:
    return T.parallel if parallel else T.serial


@cache
def quantize_activation(mode: str, block: int, parallel: bool = False) -> Any:
    """x float32 [M, K] -> q int8 [M, C, 16], scale float32 [M, B], total int32 [M, B]."""
    name = f"quantize_activation_{mode}_k{block}{'_parallel' if parallel else ''}"
    chunks, tokens, per_token = chunks_of(block), _loop(parallel), QUANTIZED[mode].per_token
    levels = ACTIVATION_LEVELS[QUANTIZED[mode].bits]

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, q_: T.handle, scale_: T.handle, total_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, K, B, C = T.int64(), T.int64(), T.int64(), T.int64()
        x = T.match_buffer(x_, (M, K), "float32")
        q = T.match_buffer(q_, (M, C, CHUNK), "int8")
        scale = T.match_buffer(scale_, (M, B), "float32")
        total = T.match_buffer(total_, (M, B), "int32")
        for m in tokens(M):
            padded = T.alloc_buffer((chunks * CHUNK,), "float32")
            inverse = T.alloc_buffer((2,), "float32")
            peak = T.alloc_buffer((LANES,), "int32")
            if per_token:
                peak[lanes(0)] = splat(T.int32(0), LANES)
                for b in T.serial(B):
                    _load_block(padded, x, m, b, block)
                    _widen_peak(peak, padded, T.min(T.int64(chunks), C - b * chunks))
                _set_scale(inverse, _largest(peak[lanes(0)]), levels)
            for b in T.serial(B):
                count = T.meta_var(T.min(T.int64(chunks), C - b * chunks))
                _load_block(padded, x, m, b, block)
                if not per_token:
                    peak[lanes(0)] = splat(T.int32(0), LANES)
                    _widen_peak(peak, padded, count)
                    _set_scale(inverse, _largest(peak[lanes(0)]), levels)
                scale[m, b] = inverse[1]
                peak[lanes(0)] = splat(T.int32(0), LANES)
                for i in T.serial(count):
                    scaled = T.meta_var(padded[lanes(i * CHUNK)] * splat(inverse[0], LANES))
                    code = T.meta_var(round_to_int(scaled, "int32x16"))
                    q[m, b * chunks + i, lanes(0)] = shuffle([T.cast(code, "int8x16")], BY_QUAD)
                    peak[lanes(0)] = peak[lanes(0)] + code
                total[m, b] = llvm("vector.reduce.add", "int32", peak[lanes(0)])

    return kernel


@cache
def table8(block: int, parallel: bool = False) -> Any:
    """x float32 [M, K] -> table int8 [M, C, 64], half scale float32 [M, B], total int32 [M, B]."""
    name = f"table8_k{block}{'_parallel' if parallel else ''}"
    chunks, tokens = chunks_of(block), _loop(parallel)
    groups = CHUNK // LUT_GROUP

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, table_: T.handle, scale_: T.handle, total_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, K, B, C = T.int64(), T.int64(), T.int64(), T.int64()
        x = T.match_buffer(x_, (M, K), "float32")
        table = T.match_buffer(table_, (M, C, groups * LANES), "int8")
        scale = T.match_buffer(scale_, (M, B), "float32")
        total = T.match_buffer(total_, (M, B), "int32")
        for m in tokens(M):
            padded = T.alloc_buffer((chunks * CHUNK,), "float32")
            inverse = T.alloc_buffer((2,), "float32")
            peak = T.alloc_buffer((LANES,), "float32")
            plus = T.alloc_buffer((LANES,), "int32")
            for b in T.serial(B):
                count = T.meta_var(T.min(T.int64(chunks), C - b * chunks))
                _load_block(padded, x, m, b, block)
                peak[lanes(0)] = splat(T.float32(0), LANES)
                # The largest entry of a table is |a0| + |a1| + |a2| + |a3|, rounded alike.
                for g in T.serial(count * groups):
                    peak[lanes(0)] = T.max(peak[lanes(0)], _signed_sum(padded, g * LUT_GROUP))
                largest = T.meta_var(_largest(T.reinterpret(peak[lanes(0)], dtype="int32x16")))
                _set_scale(inverse, largest, ACTIVATION_LEVELS[8])
                scale[m, b] = inverse[1] * T.float32(0.5)
                plus[lanes(0)] = splat(T.int32(0), LANES)
                for i in T.serial(count):
                    for j in T.unroll(groups):
                        value = T.meta_var(_signed_sum(padded, i * CHUNK + j * LUT_GROUP))
                        scaled = T.meta_var(value * splat(inverse[0], LANES))
                        entry = T.meta_var(round_to_int(scaled, "int32x16"))
                        table[m, b * chunks + i, lanes(j * LANES)] = T.cast(entry, "int8x16")
                        plus[lanes(0)] = plus[lanes(0)] + entry
                total[m, b] = plus[LANES - 1]

    return kernel


@cache
def exact_tables(mode: str, parallel: bool = False) -> Any:
    """q int8 [M, C, 16] -> exact tables int8 [M, C, 64], or [M, C, 2, 64] with high bytes last."""
    split = two_planes(mode)
    name = f"exact_tables_{mode if split else 'byte'}{'_parallel' if parallel else ''}"
    tokens, groups = _loop(parallel), CHUNK // LUT_GROUP
    entries = (2, groups * LANES) if split else (groups * LANES,)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(q_: T.handle, table_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, C = T.int64(), T.int64()
        q = T.match_buffer(q_, (M, C, CHUNK), "int8")
        table = T.match_buffer(table_, (M, C, *entries), "int8")
        for m in tokens(M):
            for i in T.serial(C):
                for j in T.unroll(groups):
                    entry = T.meta_var(_entry_sum(q, m, i, j))
                    at = T.meta_var(lanes(j * LANES))
                    if split:
                        high = T.meta_var(T.shift_right(entry, splat(T.int32(8), LANES)))
                        table[m, i, 0, at] = T.cast(entry, "int8x16")
                        table[m, i, 1, at] = T.cast(high, "int8x16")
                    else:
                        table[m, i, at] = T.cast(entry, "int8x16")

    return kernel
