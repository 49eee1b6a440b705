"""Attention over a cache of fixed length, its rotary embedding, and the cache's update in place."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp, sum_lanes
from ladder.codegen.kernels.vector import Expr, lanes, plus_product, splat, typed, unfused

WIDTH = 16


@cache
def attention(heads: int, kv_heads: int, s: int, c: int, d: int, scale: float) -> Any:
    """q [1, heads, s, d], keys and values [1, kv_heads, c, d], mask [1, 1, s, c] bool -> like q.

    Only the rows up to the last unmasked one are read. ``d`` is a multiple of 16 here (others
    take TVM's own path). Softmax subtracts the maximum (Milakov and Gimelshein's safe softmax).
    """
    name = f"attention_h{heads}_{kv_heads}_s{s}_c{c}_d{d}"
    padded = -(-c // WIDTH) * WIDTH
    scores, softmax, weigh = _parts(d, heads // kv_heads, scale)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        q: T.Buffer((1, heads, s, d), "float32"),  # type: ignore[valid-type]
        keys: T.Buffer((1, kv_heads, c, d), "float32"),  # type: ignore[valid-type]
        values: T.Buffer((1, kv_heads, c, d), "float32"),  # type: ignore[valid-type]
        mask: T.Buffer((1, 1, s, c), "bool"),  # type: ignore[valid-type]
        out: T.Buffer((1, heads, s, d), "float32"),  # type: ignore[valid-type]
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        for hi in T.parallel(heads * s):
            h = T.meta_var(hi // s)
            i = T.meta_var(hi % s)
            used = T.alloc_buffer((1,), "int32", scope="local")
            high = T.alloc_buffer((1,), "float32", scope="local")
            total = T.alloc_buffer((1,), "float32", scope="local")
            score = T.alloc_buffer((padded,), "float32", scope="local")
            used[0] = 0
            for j in T.serial(c):
                used[0] = T.max(used[0], T.if_then_else(mask[0, 0, i, j], j + 1, 0))
            scores(q, keys, mask, h, i, used, score, high)
            softmax(used, score, high, total)
            weigh(values, h, i, used, score, total, out)

    return kernel


def _parts(d: int, group: int, scale: float) -> tuple[Any, Any, Any]:
    """The steps for one head and token; ``group`` query heads share a key head."""
    vectors = d // WIDTH

    @T.inline
    def scores(q, keys, mask, h, i, used, score, high):  # type: ignore[no-untyped-def]
        acc = T.alloc_buffer((WIDTH,), "float32", scope="local")
        dot = T.alloc_buffer((1,), "float32", scope="local")
        high[0] = T.float32(-1e30)
        for j in T.serial(used[0]):
            acc[lanes(0)] = splat(T.float32(0), WIDTH)
            for v in T.unroll(vectors):
                at = T.meta_var(lanes(v * WIDTH))
                acc[lanes(0)] = plus_product(
                    acc[lanes(0)], q[0, h, i, at], keys[0, h // group, j, at]
                )
            dot[0] = sum_lanes(acc[lanes(0)])
            score[j] = T.if_then_else(mask[0, 0, i, j], dot[0] * T.float32(scale), T.float32(-1e30))
            high[0] = T.max(high[0], score[j])

    @T.inline
    def softmax(used, score, high, total):  # type: ignore[no-untyped-def]
        acc = T.alloc_buffer((WIDTH,), "float32", scope="local")
        acc[lanes(0)] = splat(T.float32(0), WIDTH)
        for j in T.serial(T.ceildiv(used[0], WIDTH) * WIDTH - used[0]):
            score[used[0] + j] = T.float32(-1e30)
        for j in T.serial(T.ceildiv(used[0], WIDTH)):
            score[lanes(j * WIDTH)] = exp(score[lanes(j * WIDTH)] - splat(high[0], WIDTH), WIDTH)
            acc[lanes(0)] = acc[lanes(0)] + score[lanes(j * WIDTH)]
        total[0] = sum_lanes(acc[lanes(0)])

    @T.inline
    def weigh(values, h, i, used, score, total, out):  # type: ignore[no-untyped-def]
        acc = T.alloc_buffer((d,), "float32", scope="local")
        for v in T.unroll(vectors):
            acc[lanes(v * WIDTH)] = splat(T.float32(0), WIDTH)
        for j in T.serial(used[0]):
            for v in T.unroll(vectors):
                at = T.meta_var(lanes(v * WIDTH))
                acc[at] = plus_product(
                    acc[at], splat(score[j], WIDTH), values[0, h // group, j, at]
                )
        for v in T.unroll(vectors):
            out[0, h, i, lanes(v * WIDTH)] = acc[lanes(v * WIDTH)] * splat(
                T.float32(1) / total[0], WIDTH
            )

    return scores, softmax, weigh


@cache
def rotary(heads: int, s: int, d: int) -> Any:
    """x [1, heads, s, d], cos and sin [1, s, d/2] -> rotated halves (ONNX, not interleaved)."""
    name = f"rotary_h{heads}_s{s}_d{d}"
    half = d // 2
    width = WIDTH if half % WIDTH == 0 else 1

    def at(start: Expr) -> Expr:
        return lanes(start) if width > 1 else start

    def rounded(product: Expr) -> Expr:
        return unfused(product, typed("float32", width))

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        x: T.Buffer((1, heads, s, d), "float32"),  # type: ignore[valid-type]
        cos: T.Buffer((1, s, half), "float32"),  # type: ignore[valid-type]
        sin: T.Buffer((1, s, half), "float32"),  # type: ignore[valid-type]
        out: T.Buffer((1, heads, s, d), "float32"),  # type: ignore[valid-type]
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        for h in T.serial(heads):
            for i in T.serial(s):
                for j in T.serial(half // width):
                    low, high = T.meta_var((at(j * width), at(half + j * width)))
                    a, b = T.meta_var((x[0, h, i, low], x[0, h, i, high]))
                    by_cos, by_sin = T.meta_var((cos[0, i, low], sin[0, i, low]))
                    out[0, h, i, low] = rounded(a * by_cos) - rounded(b * by_sin)
                    out[0, h, i, high] = rounded(b * by_cos) + rounded(a * by_sin)

    return kernel


@cache
def scatter(heads: int, s: int, c: int, d: int) -> Any:
    """Write rows [1, heads, s, d] into the cache [1, heads, c, d] from ``start`` [1], in place."""
    name = f"cache_write_h{heads}_s{s}_c{c}_d{d}"

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        cache: T.Buffer((1, heads, c, d), "float32"),  # type: ignore[valid-type]
        rows: T.Buffer((1, heads, s, d), "float32"),  # type: ignore[valid-type]
        start: T.Buffer((1,), "int64"),  # type: ignore[valid-type]
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        for h in T.serial(heads):
            for i in T.serial(s):
                for j in T.serial(d):
                    cache[0, h, start[0] + T.cast(i, "int64"), j] = rows[0, h, i, j]

    return kernel
