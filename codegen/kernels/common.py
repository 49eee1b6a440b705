"""Shared by the low-bit products of every family: their float sums, and the look-up product.

Their arguments have the names in ``signature``: ``args.q``, ``args.planes``.

Buffers of less than 1024 bytes get no scope: TVM puts those on the stack, where LLVM turns them
into registers; with ``scope="local"`` each would become a call for workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.signature import operands
from ladder.codegen.kernels.stored import scale_of, to_float
from ladder.codegen.kernels.vector import Expr, const, lanes, prefetch, splat, typed, unfused
from ladder.codegen.layout import LANES, TILE, Packing
from ladder.ir.activation import TABLE8
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.numerics import LUT_GROUP

VECTORS = TILE // LANES
LINE = 4 * LANES  # bytes
UNIT_LINES = VECTORS  # of one unit of codes that share bytes
SECOND_CACHE, FIRST_CACHE = 2, 3  # localities of a prefetch
NEAR = 1024  # bytes: the next lines move to the first cache
AHEAD = 4096  # bytes: the hardware prefetcher stops at a page, so the next page is prefetched here


@dataclass(frozen=True)
class Rows:
    """Row values of a (row tile, block) as the float sums need them: buffers [64]."""

    scales: Any
    zeros: Any


@dataclass(frozen=True)
class Run:
    """Neighbouring chunks of a (row tile, block), ``count`` from ``first`` on."""

    tile: Expr
    block: Expr
    first: Expr
    count: Expr


def zero_rows_type(packing: Packing) -> str:
    """The type in which the zero points of a row tile are kept for the sums."""
    return "float32" if packing.float_zero else "int32"


def zero_term(packing: Packing, mode: str, stored: Expr, width: int = LANES) -> Expr:
    """The factor of the activations' sum that changes a block sum, by zero point or minimum."""
    doubled = 2 if mode == TABLE8 else 1
    if packing.float_zero:
        return to_float(stored, packing.scale, width) * const(T.float32(doubled), width)
    return T.cast(stored, typed("int32", width)) * const(T.int32(doubled), width)


def read_rows(packing: Packing, mode: str) -> Any:
    """Emits the row values of a (row tile, block)."""

    def emit(rows: Rows, args: Arguments, tile: Expr, block: Expr) -> None:
        at = block if packing.grouped else T.int64(0)
        with T.unroll(VECTORS) as v:
            row = lanes(v * LANES)
            scale = scale_of(packing, args.w_scale[tile, at, row], args.factor)
            T.buffer_store(rows.scales, scale, [row])
            if packing.zero:
                zero = zero_term(packing, mode, args.zero[tile, at, row])
                T.buffer_store(rows.zeros, zero, [row])

    return emit


def block_sum(
    packing: Packing, mode: str, sums: Expr, zeros: Expr, total: Expr, less: int = 0,
    width: int = LANES, product: Any = None,
) -> Expr:  # fmt: skip
    """float32: sums of ``width`` rows, finished as by ``numerics.dot_sums`` and ``lut_sums``.

    ``total`` is a scalar; the sums of code books are finished already. ``less`` was subtracted from
    codes. ``product(a, b)`` is a product that is not fused.
    """
    if packing.digits:
        return sums
    signs = (1 << packing.bits) - 1 if mode == TABLE8 else 0  # look-ups read bits as +-1
    raw = sums + const(T.int32(signs + less) * total, width)
    raw, floats = raw * const(T.int32(packing.step), width), typed("float32", width)
    if packing.minimum:
        return T.cast(raw, floats)
    if packing.float_zero:
        product = product or (lambda a, b: unfused(a * b, floats))
        return T.cast(raw, floats) - product(zeros, const(T.cast(total, "float32"), width))
    if packing.zero:
        return T.cast(raw - zeros * const(total, width), floats)
    offset = T.int32(packing.offset * (2 if mode == TABLE8 else 1))
    return T.cast(raw - const(offset * total, width), floats)


def scaled_sum(
    packing: Packing, whole: Expr, zeros: Expr, scales: Expr, total: Expr,
    width: int = LANES, product: Any = None,
) -> Expr:  # fmt: skip
    """A block sum times the weight scale, plus what a minimum adds, each rounded on its own."""
    if not packing.minimum:
        return product(whole, scales) if product else whole * scales
    floats = typed("float32", width)
    product = product or (lambda a, b: unfused(a * b, floats))
    return product(whole, scales) + product(zeros, const(T.cast(total, "float32"), width))


def combine(packing: Packing, mode: str, rows: int = TILE, less: int = 0) -> Any:
    """Adds one block of ``rows`` rows from ``row`` on, as ``numerics.combine`` does."""

    def emit(
        result: Any, first: Expr, row: int, sums: Any, at_sum: Expr,
        given: Rows, scale: Expr, total: Expr,
    ) -> None:  # fmt: skip
        with T.unroll(rows // LANES) as v:
            at, to = lanes(row + v * LANES), lanes(first + row + v * LANES)
            raw = sums[lanes(at_sum + v * LANES)]
            whole = block_sum(packing, mode, raw, given.zeros[at], total, less)
            scaled = scaled_sum(packing, whole, given.zeros[at], given.scales[at], total)
            product = scaled * splat(scale, LANES)
            T.buffer_store(result, result[to] + unfused(product), [to])

    return emit


def adder(packing: Packing, mode: str, rows: int = TILE, less: int = 0) -> Any:
    """Uses the integer sums of a run of chunks: by ``combine``, or if sums are carried over several
    runs, by adding them to the whole sums ``result``."""
    if not packing.carried:
        return combine(packing, mode, rows, less)

    def emit(result: Any, first: Expr, row: int, sums: Any, at_sum: Expr, *_: Any) -> None:
        with T.unroll(rows // LANES) as v:
            to = lanes(first + row + v * LANES)
            T.buffer_store(result, result[to] + sums[lanes(at_sum + v * LANES)], [to])

    return emit


def raised(packing: Packing) -> Any:
    """Emits the step to the next lower digit: ``size`` sums times the factor."""
    muxed = packing.mux

    @T.inline
    def emit(sums, size, numbers, run):  # type: ignore[no-untyped-def]
        if muxed:
            if run > 0:
                for i in T.serial(size // LANES):
                    at = T.meta_var(lanes(i * LANES))
                    sums[at] = sums[at] * splat(numbers[1], LANES)

    return emit


def runs_of(packing: Packing, numbers: Any) -> Expr:
    """How many runs of chunks a scale block has: one, and with outliers one more for each digit."""
    return T.cast(numbers[0], "int64") + 1 if packing.mux else 1


def run_of(
    packing: Packing, args: Arguments, block: Expr, run: Expr, chunks: Expr
) -> tuple[Expr, Expr]:
    """(first chunk, count) of a run of a scale block: outliers' digits, highest first, then all.

    ``chunks`` is C. The order of chunks is that of ``ladder.codegen.mux_layout``.
    """
    front, first = T.int64(0), block * packing.chunks
    starts, numbers = args.starts, args.numbers
    if packing.mux:
        size = T.cast(starts[starts.shape[0] - 1], "int64")
        front = T.cast(numbers[0], "int64") * size
    left = chunks - front - first
    count = left if packing.whole else T.min(T.int64(packing.chunks), left)
    if not packing.mux:
        return first, count
    begin, end = (T.cast(starts[block + i], "int64") for i in range(2))
    is_body = run == T.cast(numbers[0], "int64")
    return (
        T.if_then_else(is_body, front + first, run * size + begin),
        T.if_then_else(is_body, count, end - begin),
    )


def clear(sums: Any, size: int) -> None:
    """Writes ``size`` zeros."""
    with T.unroll(size // LANES) as v:
        zeros = T.cast(splat(T.int32(0), LANES), f"{sums.dtype}x{LANES}")
        T.buffer_store(sums, zeros, [lanes(v * LANES)])


def clear_tokens(result: Any, tokens: Expr) -> None:
    """Writes zeros to the sums of a tile's rows and some tokens."""
    with T.serial(tokens * VECTORS) as i:
        zeros = T.cast(splat(T.int32(0), LANES), f"{result.dtype}x{LANES}")
        T.buffer_store(result, zeros, [lanes(i * LANES)])


def add_digit(
    whole: Any, sums: Any, at_sum: Expr, at: Expr, rows: int, total: Expr, less: int = 0
) -> None:
    """Adds the sums of a code book's next lower digit to those so far, for ``rows`` rows."""
    with T.unroll(rows // LANES) as v:
        to, offset = lanes(at + v * LANES), splat(T.int32(DIGIT_OFFSET - less) * total, LANES)
        part = T.cast(sums[lanes(at_sum + v * LANES)] - offset, "float32x16")
        # The product is exact, so it does not matter whether it is fused.
        T.buffer_store(whole, whole[to] * splat(T.float32(256), LANES) + part, [to])


@T.inline
def fetch_ahead(planes, tile, chunk, line, least):  # type: ignore[no-untyped-def]
    """Prefetch pair ``line`` of cache lines from ``chunk`` on, ``AHEAD`` bytes later.

    A kernel that reads a block out of order prefetches in order, ``least`` chunks (a block) ahead.
    """
    later = T.meta_var(chunk + T.max(least, AHEAD // (planes.shape[2] * 2 * LANES * 4)))
    for v in T.unroll(2):
        T.evaluate(prefetch(T.address_of(planes[tile, later, 0, 0, (line * 2 + v) * LANES])))


def fetch_codes(packing: Packing, near: int = 0) -> Any:
    """Prefetches the cache lines in which the codes of a chunk begin, ``AHEAD`` bytes later.

    With ``near``, lines so many bytes later are moved to the first cache. A kernel may prefetch
    them in ``parts`` and compute in between: many prefetches at once wait for places in the
    buffers between the caches.
    """
    shared = packing.shares_bytes
    per_unit = UNIT_LINES if shared else 2 * packing.bits
    chunks, units = (packing.kind.quads, LUT_GROUP) if shared else (1, 1)

    def emit(planes: Any, tile: Expr, chunk: Expr, part: int = 0, parts: int = 1) -> None:
        line = chunk * units * per_unit // chunks
        begin, end = (per_unit * some // parts for some in (part, part + 1))
        with T.unroll(end - begin) as i:
            fetch_line(planes, tile, line + begin + i, near)

    return emit


def fetch_line(planes: Any, tile: Expr, line: Expr, near: int = 0) -> None:
    """Prefetch a tile's cache line ``AHEAD`` bytes after ``line``; ``near``: ``fetch_codes``."""
    for ahead, locality in ((AHEAD, SECOND_CACHE), (near, FIRST_CACHE)):
        if ahead:
            at = planes[tile, 0, 0, 0, (line + ahead // LINE) * LANES]
            T.evaluate(prefetch(T.address_of(at), locality))


@T.inline
def store(out, m, tile, result, first):  # type: ignore[no-untyped-def]
    """Store 64 float sums in ``out``, which may end within the tile."""
    if tile * TILE + TILE <= out.shape[1]:
        for v in T.unroll(VECTORS):
            out[m, lanes(tile * TILE + v * LANES)] = result[lanes(first + v * LANES)]
    else:
        for row in T.serial(out.shape[1] - tile * TILE):
            out[m, tile * TILE + row] = result[first + row]


def lut_gemm(family: str, packing: Packing, mode: str, accumulate: Any) -> Any:
    """The look-up product around ``accumulate(sums, args, m, tile, first, count)``.

    ``accumulate`` is inlined: it fills ``sums`` [64] int32 with the weighted look-ups of ``count``
    chunks from ``first`` on.
    """
    name = f"lut_gemm_{family}_{mode}_{packing}"
    chunks, carried = packing.chunks, packing.carried
    zeros_type = zero_rows_type(packing)
    rows, add_block = read_rows(packing, mode), combine(packing, mode)
    carry, raise_sums = adder(packing, mode), raised(packing)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands("lut_gemm", packing, mode)))
        M, B, C = T.meta_var((args.size.M, args.size.B, args.size.C))
        for tile in T.parallel(args.size.NT):
            for m in T.serial(M):
                result = T.alloc_buffer((TILE,), "float32")
                for v in T.unroll(VECTORS):
                    result[lanes(v * LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(B):
                    sums = T.alloc_buffer((TILE,), "int32")
                    whole = T.alloc_buffer((TILE,), "int32")
                    scales = T.alloc_buffer((TILE,), "float32")
                    zeros = T.alloc_buffer((TILE,), zeros_type)
                    given = T.meta_var(Rows(scales, zeros))
                    if carried:
                        clear(whole, TILE)
                    for run in T.serial(runs_of(packing, args.numbers)):
                        span = T.meta_var(run_of(packing, args, block, run, C))
                        if carried:
                            raise_sums(whole, TILE, args.numbers, run)
                            for part in T.serial(T.ceildiv(span[1], chunks)):
                                at = T.meta_var(part * chunks)
                                accumulate(
                                    sums,
                                    args,
                                    m,
                                    tile,
                                    span[0] + at,
                                    T.min(T.int64(chunks), span[1] - at),
                                )
                                carry(whole, 0, 0, sums, 0)
                        else:
                            accumulate(sums, args, m, tile, span[0], span[1])
                    rows(given, args, tile, block)
                    add_block(
                        result,
                        0,
                        0,
                        whole if carried else sums,
                        0,
                        given,
                        args.a_scale[m, block],
                        args.a_total[m, block],
                    )
                store(args.out, m, tile, result, 0)

    return kernel
