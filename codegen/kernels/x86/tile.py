"""Integer GEMM by matrix tiles (AMX): 16 tokens by 64 rows at once.

First the activation codes are arranged as matrix tiles, once for all rows. Then the codes of a (row
tile, scale block) are unpacked once for a panel of tokens, minus their zero point if the result
fits a byte. The sums of a group of tokens go through memory in the first cache; while the tiles of
a group are multiplied, the group before is combined in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.common import (
    VECTORS,
    Rows,
    block_sum,
    clear_tokens,
    fetch_codes,
    read_rows,
    scaled_sum,
    store,
    zero_rows_type,
)
from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.signature import operands
from ladder.codegen.kernels.unpack import QUADS, Permute, stage, stage_size, words_of
from ladder.codegen.kernels.vector import Expr, lanes, splat, unfused
from ladder.codegen.kernels.x86 import amx
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing

PANEL = 8  # groups of tokens that share one unpacking
RESIDENT = 1 << 20  # bytes of activation codes that stay in the second cache while rows change
BYTES = 4 * LANES
EVERY_BYTE = 0x01010101
SIGN = 0x80  # flipped, it turns an unsigned byte into the signed byte that is smaller by 128

LookUp = Callable[[Any, Expr, int, Expr], Expr]


@dataclass(frozen=True)
class Work:
    """The arguments and buffers of a thread while it multiplies a row tile.

    ``packed`` and ``by_block`` are the activations' codes and scales as ``_pack_group`` writes
    them, ``digits`` are those of a code book as signed bytes; the other buffers are the thread's
    own. Each of the ``groups`` has ``height`` tokens.
    """

    args: Arguments
    tile: Expr
    groups: Expr
    height: Expr
    packed: Any
    by_block: Any
    result: Any
    codes: Any
    sums: Any
    rows: Rows
    digits: Any


@dataclass(frozen=True)
class Cut:
    """How a scale block is cut into steps of one instruction: ``depth`` chunks each, then zeros."""

    steps: int
    depth: int

    @staticmethod
    def of(packing: Packing) -> Cut:
        """The fewest steps, all of the same depth."""
        steps = -(-packing.chunks * QUADS // amx.QUADS)
        return Cut(steps, -(-packing.chunks // steps))

    @property
    def width(self) -> int:
        """Bytes of a token in a step."""
        return self.depth * CHUNK

    @property
    def words(self) -> int:
        """Dwords of the unpacked codes of a step."""
        return self.depth * QUADS * TILE


def _signed(packing: Packing) -> bool:
    """Whether codes minus their zero point fit signed bytes: then sums need no correction."""
    if packing.digits:
        return True
    if packing.zero:
        return packing.zero == "zp" and packing.bits < 8
    return packing.bits < 8 or packing.offset == SIGN


def _finish(packing: Packing, look_up: LookUp) -> Any:
    """What ``unpack.stage`` stores: digits, codes minus their zero point, or plain codes."""
    entries, offset = packing.entries, (packing.offset + SIGN) % 256 - SIGN

    def finish(digits: Any, zeros: Any, d: Expr, quad: Expr, row: Expr) -> Expr:
        if packing.digits:
            return look_up(digits, d, entries, quad)
        if not _signed(packing) or not (packing.zero or offset):
            return quad
        code = T.reinterpret(quad, dtype="int8x64") * splat(T.int8(packing.step), BYTES)
        zero = splat(T.int8(offset), BYTES)
        if packing.zero:
            every = zeros[lanes(row)] * splat(T.int32(EVERY_BYTE), LANES)
            zero = T.reinterpret(every, dtype="int8x64")
        return T.reinterpret(code - zero, dtype="int32x16")

    return finish


def _combine(packing: Packing) -> Any:
    """Emits the addition of a block to the results of tokens ``begin`` .. ``end`` of a group."""
    parts, size = max(packing.digits, 1), amx.TOKENS * TILE

    def whole(sums: Any, at: Expr, zeros: Expr, total: Expr) -> Expr:
        if not _signed(packing):
            return block_sum(packing, "int8", sums[lanes(at)], zeros, total)
        value = T.cast(sums[lanes(at + (parts - 1) * size)], "float32x16")
        for d in range(parts - 2, -1, -1):  # exact products: fused or not is the same
            part = T.cast(sums[lanes(at + d * size)], "float32x16")
            value = value * splat(T.float32(256), LANES) + part
        return value

    @T.inline
    def emit(work, place, begin, end, m, block):  # type: ignore[no-untyped-def]
        for t in T.serial(begin, end):
            for v in T.unroll(VECTORS):
                row = T.meta_var(lanes(v * LANES))
                total = T.meta_var(work.args.a_total[m + t, block])
                zero, scale = T.meta_var((work.rows.zeros[row], work.rows.scales[row]))
                value = T.meta_var(whole(work.sums, t * TILE + v * LANES, zero, total))
                scaled = T.meta_var(scaled_sum(packing, value, zero, scale, total))
                product = T.meta_var(scaled * splat(work.by_block[block, m + t], LANES))
                to = T.meta_var(lanes((place + t) * TILE + v * LANES))
                work.result[to] = work.result[to] + unfused(product)

    return emit


def _multiply(packing: Packing, combine: Any, meanwhile: bool) -> Any:
    """Emits the sums [D, 16, 64] of a group; ``meanwhile`` combines those before, in parts.

    If there are none before, codes far ahead are prefetched, a chunk at a time.
    """
    cut, signed, parts = Cut.of(packing), _signed(packing), max(packing.digits, 1)
    size, chunks, fetch = stage_size(packing), packing.chunks, fetch_codes(packing)

    @T.inline
    def emit(work, at, place, m, block):  # type: ignore[no-untyped-def]
        height = T.meta_var(work.height)
        for d in T.unroll(parts):
            for v in T.unroll(VECTORS):
                T.evaluate(amx.clear(v))
            for s in T.unroll(cut.steps):
                group = T.meta_var(work.packed[at + s * height * cut.width])
                T.evaluate(amx.load(amx.ACTIVATIONS, group, cut.width))
                for v in T.unroll(VECTORS):
                    first = T.meta_var(work.codes[d * size + s * cut.words + v * LANES])
                    T.evaluate(amx.load(amx.CODES, first, TILE * 4))
                    T.evaluate(amx.multiply(v, signed))
                    if not meanwhile and d == 0 and v < cut.depth:
                        fetch(work.args.planes, work.tile, block * chunks + s * cut.depth + v)
                    done = T.meta_var(s * VECTORS + v + 1)
                    if meanwhile and d == 0 and done % cut.steps == 0:
                        part = T.meta_var(done // cut.steps - 1)
                        begin = T.meta_var(height * part // VECTORS)
                        combine(work, place, begin, height * (part + 1) // VECTORS, m, block)
            for v in T.unroll(VECTORS):
                T.evaluate(amx.store(v, work.sums[d * amx.TOKENS * TILE + v * LANES], TILE * 4))

    return emit


def _add_panel(packing: Packing) -> Any:
    """Emits the addition of a block to the float results of ``count`` groups of tokens."""
    cut, combine = Cut.of(packing), _combine(packing)
    multiply, multiply_more = (_multiply(packing, combine, more) for more in (False, True))

    @T.inline
    def emit(work, group, count, block):  # type: ignore[no-untyped-def]
        height = T.meta_var(work.height)
        size = T.meta_var(cut.steps * height * cut.width)
        at, m = T.meta_var((block * work.groups + group) * size), T.meta_var(group * height)
        multiply(work, at, 0, m, block)
        for i in T.serial(count - 1):
            multiply_more(work, at + (i + 1) * size, i * height, m + i * height, block)
        last = T.meta_var((count - 1) * height)
        tokens = T.meta_var(T.min(height, work.args.a_total.shape[0] - m - last))
        combine(work, last, T.int64(0), tokens, m + last, block)

    return emit


def _pack_group(packing: Packing) -> Any:
    """Emits the activations of ``height`` tokens as matrix tiles, and their scales by block."""
    cut, chunks = Cut.of(packing), packing.chunks

    @T.inline
    def emit(packed, by_block, args, group, groups, height):  # type: ignore[no-untyped-def]
        M, C, B = T.meta_var((args.size.M, args.size.C, args.size.B))
        for t in T.serial(height):
            m = T.meta_var(group * height + t)
            for b in T.serial(B):
                if m < M:
                    by_block[b, m] = args.a_scale[m, b]
                for s in T.unroll(cut.steps):
                    for c in T.unroll(cut.depth):
                        tile = T.meta_var((b * groups + group) * cut.steps + s)
                        to = T.meta_var(lanes((tile * height + t) * cut.width + c * CHUNK))
                        within = T.meta_var(s * cut.depth + c)
                        chunk = T.meta_var(b * chunks + within)
                        if m < M and within < chunks and chunk < C:
                            packed[to] = args.q[m, chunk, lanes(0)]
                        else:
                            packed[to] = splat(T.int8(0), CHUNK)

    return emit


def _ceildiv(a: Expr, b: Expr) -> Expr:
    """For positive numbers: with ``T.ceildiv`` TVM would spend a second on proofs."""
    return T.truncdiv(a + b - 1, b)


def _set_digits(packing: Packing) -> Any:
    """Emits a code book's digits as signed bytes."""
    parts, entries = packing.digits, packing.entries

    @T.inline
    def emit(signed, digits):  # type: ignore[no-untyped-def]
        for d in T.unroll(parts):
            for entry in T.serial(entries):
                signed[d, entry] = T.bitwise_xor(digits[d, entry], T.uint8(SIGN))

    return emit


def _panel(packing: Packing, look_up: LookUp, permute: Permute) -> Any:
    """Emits the outputs of one row tile for ``count`` groups of tokens from ``group`` on."""
    chunks, add_panel = packing.chunks, _add_panel(packing)
    fill_rows, finish = read_rows(packing, "int8"), _finish(packing, look_up)
    stage_block = stage(packing, finish, words_of(packing, permute), max(packing.digits, 1))

    @T.inline
    def emit(work, group, count):  # type: ignore[no-untyped-def]
        args, tile = T.meta_var((work.args, work.tile))
        m = T.meta_var(group * work.height)
        tokens = T.meta_var(T.min(count * work.height, args.size.M - m))
        clear_tokens(work.result, tokens)
        for block in T.serial(args.size.B):
            first = T.meta_var(block * chunks)
            here = T.meta_var(T.min(T.int64(chunks), args.size.C - first))
            fill_rows(work.rows, args, tile, block)
            stage_block(work.codes, args.planes, work.digits, work.rows.zeros, tile, first, here)
            add_panel(work, group, count, block)
        for t in T.serial(tokens):
            store(args.out, m + t, tile, work.result, t * TILE)

    return emit


def tile_gemm(family: str, packing: Packing, look_up: LookUp, permute: Permute) -> Any:
    """The product of activation codes by matrix tiles; ``look_up``, ``permute``: ``dot``."""
    name = f"tile_gemm_{family}_{packing}"
    cut, book = Cut.of(packing), packing.digits > 0
    parts, entries = max(packing.digits, 1), packing.entries
    words = parts * stage_size(packing) + cut.words  # the last step may reach beyond the last code
    zeros_type = zero_rows_type(packing)
    pack_group, set_digits = _pack_group(packing), _set_digits(packing)
    panel = _panel(packing, look_up, permute)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands("tile_gemm", packing)))
        M, B = T.meta_var((args.size.M, args.size.B))
        groups: T.let = T.ceildiv(M, amx.TOKENS)
        height: T.let = _ceildiv(M, groups)  # tokens of a group
        size: T.let = B * height * cut.steps * cut.width  # bytes of a group
        panels: T.let = T.max(T.truncdiv(T.int64(RESIDENT), size * PANEL), T.int64(1))
        packed = T.alloc_buffer((groups * size,), "int8")
        by_block = T.alloc_buffer((B, M), "float32")
        with T.attr(0, "pragma_parallel_launch_point", 1):
            with T.attr(0, "pragma_parallel_barrier_when_finish", 1):
                for group in T.parallel(groups):
                    pack_group(packed, by_block, args, group, groups, height)
            for begin in T.serial(_ceildiv(groups, panels * PANEL)):
                for tile in T.parallel(args.size.NT):
                    codes = T.alloc_buffer((words,), "int32")
                    result = T.alloc_buffer((PANEL * amx.TOKENS * TILE,), "float32")
                    sums = T.alloc_buffer((parts * amx.TOKENS * TILE,), "int32")
                    scales = T.alloc_buffer((TILE,), "float32")
                    zeros = T.alloc_buffer((TILE,), zeros_type)
                    signed = T.alloc_buffer((parts, entries), "uint8")
                    config = T.alloc_buffer((amx.CONFIG_BYTES,), "uint8")
                    if book:
                        set_digits(signed, args.digits)
                    rows = T.meta_var(Rows(scales, zeros))
                    work = T.meta_var(Work(args, tile, groups, height, packed, by_block,
                                           result, codes, sums, rows, signed))  # fmt: skip
                    amx.configure(config, height, cut.depth * QUADS)
                    left = T.meta_var(T.min(groups - begin * panels * PANEL, panels * PANEL))
                    for i in T.serial(T.ceildiv(left, PANEL)):
                        group = T.meta_var((begin * panels + i) * PANEL)
                        panel(work, group, T.min(T.int64(PANEL), groups - group))
                    T.evaluate(amx.release())

    return kernel
