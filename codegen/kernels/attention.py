"""Attention of ONNX for one form of it: its sizes, masks and limits are compiled in.

For each token and head: scores of the keys it may see, safe softmax (Milakov and Gimelshein: the
maximum is subtracted), and the weighted sum of values. Keys after the last visible one are not
read. A row that sees no key is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp, sum_lanes, tanh
from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.signature import Operand, Operands
from ladder.codegen.kernels.stored import to_float
from ladder.codegen.kernels.vector import (
    Expr,
    const,
    lanes,
    plus_product,
    splat,
    typed,
    unfused,
    width_of,
)
from ladder.codegen.layout import LANES

LOWEST = -3.4028234663852886e38  # of float32; a mask below it hides a key


@dataclass(frozen=True)
class Form:
    """One form of attention.

    ``mask`` has the four axes of the mask, of which the first three may be 1, and the last one
    may be shorter than ``c``: keys after it are hidden. ``past`` is the number of keys before the
    first query, for causal attention. ``lengths``: a sequence has so many keys only, given at
    run time; causal queries are then the last ones of these. ``stored`` is the type of keys and
    values: a float, or int8 codes with a scale for each head and key. ``widening``: the processor
    has an instruction from float16 to float32.
    """

    batch: int
    heads: int
    kv_heads: int
    s: int
    c: int
    d: int
    dv: int
    scale: float
    softcap: float = 0.0
    mask: tuple[int, int, int, int] | None = None
    mask_type: str = "bool"
    past: int | None = None
    lengths: bool = False
    stored: str = "float32"
    widening: bool = True

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.heads // self.kv_heads

    @property
    def masked_by_head(self) -> bool:
        """Whether heads have masks of their own."""
        return self.mask is not None and self.mask[1] > 1

    @property
    def name(self) -> str:
        """The name of the kernel, another one for every form."""
        sizes = f"b{self.batch}_h{self.heads}_{self.kv_heads}_s{self.s}_c{self.c}_d{self.d}"
        parts = [f"attention_{sizes}_{self.dv}_x{self.scale:.9g}"]
        if self.softcap:
            parts.append(f"cap{self.softcap:.9g}")
        if self.mask is not None:
            parts.append(f"{self.mask_type}{'x'.join(map(str, self.mask))}")
        if self.past is not None:
            parts.append(f"causal{self.past}")
        if self.lengths:
            parts.append("lengths")
        if self.stored != "float32":
            parts.append(self.stored)
        return "_".join(parts)

    @property
    def operands(self) -> Operands:
        """The buffers in order."""
        keys = (self.batch, self.kv_heads, self.c)
        rows, coded = (self.batch, self.heads, self.s), self.stored == "int8"
        return (
            Operand("q", (*rows, self.d), "float32"),
            Operand("keys", (*keys, self.d), self.stored),
            Operand("values", (*keys, self.dv), self.stored),
            Operand("mask", self.mask or (1, 1, 1, 1), self.mask_type, self.mask is not None),
            Operand("lengths", (self.batch,), "int64", self.lengths),
            Operand("key_scales", (*keys, 1), "float32", coded),
            Operand("value_scales", (*keys, 1), "float32", coded),
            Operand("out", (*rows, self.dv), "float32", written=True),
        )


@dataclass(frozen=True)
class Row:
    """Sequence, query head, key head and token of a row of the output."""

    b: Expr
    h: Expr
    kv: Expr
    i: Expr


@cache
def rows_kernel(form: Form) -> Any:
    """The kernel of ``form`` that computes one row after the other, parallel over rows."""
    padded = -(-form.c // LANES) * LANES

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": form.name, "tirx.noalias": True})
        args = T.meta_var(declare(form.operands))
        for row in T.parallel(form.batch * form.heads * form.s):
            at = T.meta_var(_row(form, row))
            used = T.alloc_buffer((1,), "int32", scope="local")
            high = T.alloc_buffer((1,), "float32", scope="local")
            total = T.alloc_buffer((1,), "float32", scope="local")
            dot = T.alloc_buffer((1,), "float32", scope="local")
            lane_sums = T.alloc_buffer((LANES,), "float32", scope="local")
            score = T.alloc_buffer((padded,), "float32", scope="local")
            acc = T.alloc_buffer((form.dv,), "float32", scope="local")
            find_used(form, args, at, used)
            high[0] = T.float32(LOWEST)
            for j in T.serial(used[0]):
                multiply(form, args, at, j, lane_sums, dot)
                score[j] = _score(
                    form, args, at, j, dot[0] * code_scale(form, args.key_scales, at, j)
                )
                high[0] = T.max(high[0], score[j])
            softmax(used[0], score, high[0], lane_sums, total)
            clear(form.dv, acc)
            for j in T.serial(used[0]):
                weigh(
                    form,
                    args,
                    at,
                    j,
                    score[j] * code_scale(form, args.value_scales, at, j),
                    acc,
                )
            finish(form, args, at, total[0], acc)

    return kernel


def _row(form: Form, row: Expr) -> Row:
    head = row // form.s
    h = head % form.heads
    return Row(head // form.heads, h, h // form.group, row % form.s)


def masked(form: Form, args: Arguments, at: Row, j: Expr) -> Expr:
    """The mask's value for key j; axes of size 1 are broadcast."""
    assert form.mask is not None
    places = [p if size > 1 else 0 for p, size in zip((at.b, at.h, at.i), form.mask, strict=False)]
    return args.mask[(*places, j)]


def seen(form: Form, args: Arguments, at: Row, j: Expr) -> Expr:
    """Whether the mask shows key j."""
    value = masked(form, args, at, j)
    return value if form.mask_type == "bool" else value >= T.float32(LOWEST)


def _bound(form: Form, args: Arguments, at: Row) -> Expr:
    """The number of keys that a row may see by everything but the mask's values."""
    bound: Expr = T.int64(form.c if form.mask is None else min(form.c, form.mask[3]))
    past: Expr = None if form.past is None else T.int64(form.past)
    if form.lengths:
        bound = T.min(bound, args.lengths[at.b])
        past = None if past is None else args.lengths[at.b] - form.s
    if past is not None:
        bound = T.min(bound, past + T.cast(at.i, "int64") + 1)
    return T.cast(T.max(bound, T.int64(0)), "int32")


def find_used(form: Form, args: Arguments, at: Row, used: Any) -> None:
    """Write the number of keys up to the last visible one."""
    bound = _bound(form, args, at)
    if form.mask is None:
        T.buffer_store(used, bound, [0])
        return
    T.buffer_store(used, T.int32(0), [0])
    with T.serial(bound) as j:
        end = T.if_then_else(seen(form, args, at, j), j + 1, 0)
        T.buffer_store(used, T.max(used[0], end), [0])


def multiply(form: Form, args: Arguments, at: Row, j: Expr, sums: Any, dot: Any) -> None:
    """Write the product of a query and key ``j``: sums by lane first, then what is left."""
    query = args.q
    T.buffer_store(sums, splat(T.float32(0), LANES), [lanes(0)])
    for place, width in parts(form.d):
        a, b = query[at.b, at.h, at.i, place], read(form, args.keys, at, j, place)
        if width == LANES:
            T.buffer_store(sums, plus_product(sums[lanes(0)], a, b), [lanes(0)])
    T.buffer_store(dot, sum_lanes(sums[lanes(0)]), [0])
    for place, width in parts(form.d):
        a, b = query[at.b, at.h, at.i, place], read(form, args.keys, at, j, place)
        if width < LANES:
            part = sum_lanes(unfused(a * b, typed("float32", width)), width)
            T.buffer_store(dot, dot[0] + part, [0])


def read(form: Form, buffer: Any, at: Row, j: Expr, place: Expr) -> Expr:
    """Neighbours of the stored key or value j as float32."""
    stored = buffer[at.b, at.kv, j, place]
    if form.stored == "float32":
        return stored
    width = width_of(stored)
    if form.stored == "float16" and not form.widening:
        bits = T.reinterpret(stored, dtype=typed("uint16", width))
        return to_float(bits, "fp16", width)
    return T.cast(stored, typed("float32", width))


def code_scale(form: Form, scales: Any, at: Row, j: Expr) -> Expr:
    """The scale of the codes of key j; 1 for floats."""
    return scales[at.b, at.kv, j, 0] if form.stored == "int8" else T.float32(1)


def parts(size: int) -> Iterator[tuple[Expr, int]]:
    """(index, width) of the vectors that ``size`` neighbours make: 16 lanes, then 8, 4, 2, 1."""
    start, width = 0, LANES
    while start < size:
        while width > size - start:
            width //= 2
        yield (T.ramp(start, 1, width) if width > 1 else start), width
        start += width


def _score(form: Form, args: Arguments, at: Row, j: Expr, dot: Expr) -> Expr:
    """The score of key j from its product with the query: scaled, capped, masked."""
    score = scaled(form, dot)
    if form.mask is None:
        return score
    return hidden(form, score, masked(form, args, at, j))


def scaled(form: Form, dot: Expr) -> Expr:
    """The score of one or more keys from their products with queries: scaled and capped."""
    width = width_of(dot)

    def times(x: Expr, value: float) -> Expr:
        return unfused(x * const(T.float32(value), width), typed("float32", width))

    score = times(dot, form.scale)
    if form.softcap:
        score = times(tanh(times(score, 1 / form.softcap), width), form.softcap)
    return score


def hidden(form: Form, score: Expr, mask: Expr) -> Expr:
    """Scores with the mask's values for them."""
    lowest = const(T.float32(LOWEST), width_of(score))
    if form.mask_type == "bool":
        return T.Select(mask, score, lowest)
    return T.max(score + mask, lowest)


def softmax(used: Expr, score: Any, high: Expr, sums: Any, total: Any) -> None:
    """Replace scores by their powers of e, relative to the highest, and write their sum."""
    vectors = T.ceildiv(used, LANES)
    with T.serial(vectors * LANES - used) as j:
        T.buffer_store(score, T.float32(LOWEST), [used + j])
    T.buffer_store(sums, splat(T.float32(0), LANES), [lanes(0)])
    with T.serial(vectors) as j:
        at = lanes(j * LANES)
        T.buffer_store(score, exp(score[at] - splat(high, LANES), LANES), [at])
        T.buffer_store(sums, sums[lanes(0)] + score[at], [lanes(0)])
    T.buffer_store(total, sum_lanes(sums[lanes(0)]), [0])


def clear(size: int, acc: Any) -> None:
    for place, width in parts(size):
        T.buffer_store(acc, const(T.float32(0), width), [place])


def weigh(form: Form, args: Arguments, at: Row, j: Expr, weight: Expr, acc: Any) -> None:
    """Add the value of key j, times its weight."""
    for place, width in parts(form.dv):
        value = read(form, args.values, at, j, place)
        T.buffer_store(acc, plus_product(acc[place], const(weight, width), value, width), [place])


def finish(form: Form, args: Arguments, at: Row, total: Expr, acc: Any) -> None:
    """Divide by the sum of weights; without a visible key there are none, and the row is zero."""
    inverse = T.if_then_else(total > T.float32(0), T.float32(1) / total, T.float32(0))
    for place, width in parts(form.dv):
        out = acc[place] * const(inverse, width)
        T.buffer_store(args.out, out, [at.b, at.h, at.i, place])
