"""Attention of several tokens: 16 queries of a head are the lanes of a vector.

The bits are those of ``attention.rows_kernel``. Keys and values that are stored in fewer bits are
converted to float32 once for all queries of a tile and all heads that share them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.attention import (
    LOWEST,
    Form,
    Row,
    code_scale,
    find_used,
    hidden,
    masked,
    parts,
    read,
    rows_kernel,
    scaled,
)
from ladder.codegen.kernels.float_math import exp
from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.vector import (
    Expr,
    const,
    lanes,
    lanes_from,
    plus_product,
    splat,
    unfused,
)
from ladder.codegen.layout import LANES

Read = Callable[[Expr, Expr], Expr]  # (key of a tile, index of neighbours) -> float32
Columns = list[list[int]]  # the channels that each lane sums

FEWEST = 8  # tokens; fewer of them leave most lanes empty
HEADS = 4  # that one task computes with the same keys
KEYS = 16  # in a tile
TOGETHER = 2  # keys that are multiplied by a query at once
ROWS = 4  # rows of the output whose values are added at once
DEPTH = 6  # sums that a tree over 16 lanes, after another sum, holds at once


def attention(form: Form) -> Any:
    """The kernel of ``form``."""
    return tiled_kernel(form) if form.s >= FEWEST else rows_kernel(form)


@dataclass(frozen=True)
class Task:
    """16 tokens of some heads that share keys; the buffers that one task needs.

    ``used`` is [HEADS or 1, 16], ``queries`` [HEADS, d, 16], ``shown`` [KEYS, 16], ``score``
    [HEADS, keys, 16], ``acc`` [HEADS, 16, dv], ``tile`` [KEYS, max(d, dv)].
    """

    b: Expr
    kv: Expr
    first: Expr  # head
    token: Expr
    heads: Expr
    used: Any
    most: Any
    queries: Any
    score: Any
    high: Any
    total: Any
    acc: Any
    tile: Any
    shown: Any

    def lanes_used(self, form: Form, h: Expr) -> Expr:
        """The number of keys that each lane of a head uses."""
        return self.used[h if form.masked_by_head else 0, lanes(0)]

    def row(self, form: Form, lane: Expr, head: Expr = 0) -> Row:
        """The row of a lane; lanes after the last token repeat it."""
        token = T.min(self.token + lane, form.s - 1)
        return Row(self.b, self.first + head, self.kv, token)


@cache
def tiled_kernel(form: Form) -> Any:
    """Parallel over tasks."""
    padded = -(-form.c // KEYS) * KEYS
    at_once = min(HEADS, form.group)
    splits, blocks = -(-form.group // at_once), -(-form.s // LANES)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": f"{form.name}_tiles", "tirx.noalias": True})
        args = T.meta_var(declare(form.operands))
        for task in T.parallel(form.batch * form.kv_heads * splits * blocks):
            used = T.alloc_buffer((at_once, LANES), "int32", scope="local")
            most = T.alloc_buffer((1,), "int32", scope="local")
            high = T.alloc_buffer((at_once, LANES), "float32", scope="local")
            total = T.alloc_buffer((at_once, LANES), "float32", scope="local")
            queries = T.alloc_buffer((at_once, form.d, LANES), "float32")
            score = T.alloc_buffer((at_once, padded, LANES), "float32")
            acc = T.alloc_buffer((at_once, LANES, form.dv), "float32")
            tile = T.alloc_buffer((KEYS, max(form.d, form.dv)), "float32")
            shown = T.alloc_buffer((KEYS, LANES), "float32")
            place = T.meta_var(task // blocks)
            of_group = T.meta_var(place % splits * at_once)
            kv = T.meta_var(place // splits % form.kv_heads)
            at = T.meta_var(
                Task(
                    place // splits // form.kv_heads, kv, kv * form.group + of_group,
                    task % blocks * LANES, T.min(at_once, form.group - of_group),
                    used, most, queries, score, high, total, acc, tile, shown,
                )
            )  # fmt: skip
            _begin(form, args, at)
            for j in T.serial(T.ceildiv(most[0], KEYS)):
                _score_tile(form, args, at, j * KEYS)
            for h in T.serial(at.heads):
                _softmax(form, at, h)
            for j in T.serial(T.ceildiv(most[0], KEYS)):
                _weigh_tile(form, args, at, j * KEYS)
            for h in T.serial(at.heads):
                for lane in T.serial(T.min(LANES, form.s - at.token)):
                    _finish(form, args, at, h, lane)

    return kernel


def _begin(form: Form, args: Arguments, at: Task) -> None:
    """How many keys each lane uses, its queries, and the start of each result."""
    one = T.alloc_buffer((1,), "int32", scope="local")
    T.buffer_store(at.most, T.int32(0), [0])
    with T.serial(at.heads if form.masked_by_head else 1) as h, T.serial(LANES) as lane:
        find_used(form, args, at.row(form, lane, h), one)
        T.buffer_store(at.used, one[0], [h, lane])
        T.buffer_store(at.most, T.max(at.most[0], one[0]), [0])
    with T.serial(at.heads) as h:
        T.buffer_store(at.high, splat(T.float32(LOWEST), LANES), [h, lanes(0)])
        with T.serial(LANES) as lane:
            row = at.row(form, lane, h)
            with T.serial(form.d) as k:
                T.buffer_store(at.queries, args.q[row.b, row.h, row.i, k], [h, k, lane])
            for place, width in parts(form.dv):
                T.buffer_store(at.acc, const(T.float32(0), width), [h, lane, place])


def _floats(form: Form, stored: Any, at: Task, first: Expr, size: int) -> Read:
    """A reader of keys or values of a tile as float32; converts them all, if they are stored so."""
    row = Row(at.b, at.first, at.kv, 0)

    def key(j: Expr) -> Expr:
        return T.min(first + j, form.c - 1)

    if form.stored == "float32":
        return lambda j, place: stored[at.b, at.kv, key(j), place]
    with T.serial(KEYS) as j:
        for place, _ in parts(size):
            T.buffer_store(at.tile, read(form, stored, row, key(j), place), [j, place])
    return lambda j, place: at.tile[j, place]


def _score_tile(form: Form, args: Arguments, at: Task, first: Expr) -> None:
    """Write the scores of a tile of keys, and raise the highest ones."""
    get = _floats(form, args.keys, at, first, form.d)
    if form.mask is not None and not form.masked_by_head:
        _show(form, args, at, first, 0)
    with T.serial(at.heads) as h:
        if form.masked_by_head:
            _show(form, args, at, first, h)
        with T.serial(KEYS // TOGETHER) as pair:
            dots = _products(form, at, h, pair * TOGETHER, get)
            for i in range(TOGETHER):
                _put_score(form, args, at, (h, first, pair * TOGETHER + i), dots[i])


def _show(form: Form, args: Arguments, at: Task, first: Expr, h: Expr) -> None:
    """The mask's values for a tile of keys."""
    assert form.mask is not None
    with T.serial(LANES) as lane, T.serial(KEYS) as j:
        key = T.min(first + j, form.mask[3] - 1)
        value = masked(form, args, at.row(form, lane, h), key)
        T.buffer_store(at.shown, T.cast(value, "float32"), [j, lane])


def _products(form: Form, at: Task, h: Expr, j: Expr, get: Read) -> list[Expr]:
    """The products of the queries and ``TOGETHER`` keys from ``j`` on, summed as a row does it."""
    sums = T.alloc_buffer((TOGETHER, DEPTH, LANES), "float32", scope="local")

    def put(slot: int, values: list[Expr]) -> None:
        for i, value in enumerate(values):
            T.buffer_store(sums, value, [i, slot, lanes(0)])

    def held(slot: int) -> list[Expr]:
        return [sums[i, slot, lanes(0)] for i in range(TOGETHER)]

    def terms(k: int) -> list[Expr]:
        query = at.queries[h, k, lanes(0)]
        return [unfused(query * splat(get(j + i, k), LANES)) for i in range(TOGETHER)]

    def plus(slot: int, more: list[Expr]) -> None:
        put(slot, [a + b for a, b in zip(held(slot), more, strict=True)])

    def add(columns: Columns, slot: int) -> None:
        """The sum of columns, even and odd ones first: the tree of ``sum_lanes``."""
        if len(columns) > 1:
            add(columns[::2], slot)
            add(columns[1::2], slot + 1)
            plus(slot, held(slot + 1))
            return
        put(slot, terms(columns[0][0]))
        for k in columns[0][1:]:
            plus(slot, terms(k))

    first, *rest = _columns(form.d)
    add(first, 0)
    for columns in rest:
        add(columns, 1)
        plus(0, held(1))
    return held(0)


def _columns(size: int) -> list[Columns]:
    """The channels that each lane of a row sums, for every vector of ``parts``."""
    whole = size // LANES * LANES
    found = [[[*range(lane, whole, LANES)] for lane in range(LANES)]] if whole else []
    start, width = whole, LANES // 2
    while start < size:
        if width <= size - start:
            found.append([[start + lane] for lane in range(width)])
            start += width
        else:
            width //= 2
    return found


def _put_score(form: Form, args: Arguments, at: Task, place: tuple[Expr, ...], dot: Expr) -> None:
    """Write the scores of key ``j`` of the tile ``first`` for all lanes."""
    h, first, j = place
    if form.stored == "int8":
        row = at.row(form, 0)
        key = T.min(first + j, form.c - 1)
        dot = dot * splat(code_scale(form, args.key_scales, row, key), LANES)
    score = scaled(form, dot)
    if form.mask is not None:
        shown = at.shown[j, lanes(0)]
        zero = splat(T.float32(0), LANES)
        score = hidden(form, score, shown > zero if form.mask_type == "bool" else shown)
    lowest = splat(T.float32(LOWEST), LANES)
    score = T.Select(splat(first + j, LANES) < at.lanes_used(form, h), score, lowest)
    T.buffer_store(at.score, score, [h, first + j, lanes(0)])
    high = T.max(at.high[h, lanes(0)], at.score[h, first + j, lanes(0)])
    T.buffer_store(at.high, high, [h, lanes(0)])


def _softmax(form: Form, at: Task, h: Expr) -> None:
    """Replace scores by their powers of e, relative to the highest, and write their sums."""
    sums = T.alloc_buffer((LANES, LANES), "float32")
    with T.serial(LANES) as i:
        T.buffer_store(sums, splat(T.float32(0), LANES), [i, lanes(0)])
    with T.serial(T.ceildiv(at.most[0], KEYS) * KEYS) as j:
        power = exp(at.score[h, j, lanes(0)] - at.high[h, lanes(0)], LANES)
        used = splat(j, LANES) < at.lanes_used(form, h)
        T.buffer_store(
            at.score, T.Select(used, power, splat(T.float32(0), LANES)), [h, j, lanes(0)]
        )
        i = j % LANES
        T.buffer_store(sums, sums[i, lanes(0)] + at.score[h, j, lanes(0)], [i, lanes(0)])
    total = _tree([sums[i, lanes(0)] for i in range(LANES)])
    T.buffer_store(at.total, total, [h, lanes(0)])


def _tree(vectors: list[Expr]) -> Expr:
    """The sum of vectors, as ``sum_lanes`` adds lanes."""
    return vectors[0] if len(vectors) == 1 else _tree(vectors[::2]) + _tree(vectors[1::2])


def _weigh_tile(form: Form, args: Arguments, at: Task, first: Expr) -> None:
    """Add the values of a tile of keys, times their weights."""
    get = _floats(form, args.values, at, first, form.dv)
    keys = T.min(at.most[0] - first, KEYS)
    with T.serial(at.heads) as h:
        if form.stored == "int8":
            with T.serial(keys) as j:
                scale = code_scale(form, args.value_scales, at.row(form, 0), first + j)
                weight = at.score[h, first + j, lanes(0)] * splat(scale, LANES)
                T.buffer_store(at.score, weight, [h, first + j, lanes(0)])
        with T.serial(LANES // ROWS) as rows:
            for place, width in parts(form.dv):
                _weigh(at, h, rows * ROWS, (first, keys), (get, place, width))


def _weigh(
    at: Task, h: Expr, row: Expr, keys: tuple[Expr, Expr], values: tuple[Read, Expr, int]
) -> None:
    """Add neighbours of the values of ``keys`` (the first, their number) to ``ROWS`` rows."""
    (first, count), (get, place, width) = keys, values
    sums = T.alloc_buffer((ROWS, width), "float32", scope="local")
    every = lanes_from(0, width)
    for i in range(ROWS):
        T.buffer_store(sums, at.acc[h, row + i, place], [i, every])
    with T.serial(count) as j:
        for i in range(ROWS):
            weight = const(at.score[h, first + j, row + i], width)
            T.buffer_store(
                sums, plus_product(sums[i, every], weight, get(j, place), width), [i, every]
            )
    for i in range(ROWS):
        T.buffer_store(at.acc, sums[i, every], [h, row + i, place])


def _finish(form: Form, args: Arguments, at: Task, h: Expr, lane: Expr) -> None:
    """Divide by the sum of weights; without a visible key there are none, and the row is zero."""
    total, row = at.total[h, lane], at.row(form, lane, h)
    inverse = T.if_then_else(total > T.float32(0), T.float32(1) / total, T.float32(0))
    for place, width in parts(form.dv):
        out = at.acc[h, lane, place] * const(inverse, width)
        T.buffer_store(args.out, out, [row.b, row.h, row.i, place])
