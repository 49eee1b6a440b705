"""Rotary embedding of keys, and the update of their cache in place."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, lanes, typed, unfused
from ladder.codegen.layout import LANES


@cache
def rotary(heads: int, s: int, d: int) -> Any:
    """x [1, heads, s, d], cos and sin [1, s, d/2] -> rotated halves (ONNX, not interleaved)."""
    name = f"rotary_h{heads}_s{s}_d{d}"
    half = d // 2
    width = LANES if half % LANES == 0 else 1

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
def scatter(heads: int, s: int, c: int, d: int, dtype: str = "float32", ring: bool = False) -> Any:
    """Write rows [1, heads, s, d] into the cache [1, heads, c, d] from ``start`` [1], in place.

    In a ``ring``, the first row comes after the last one.
    """
    name = f"cache_write_h{heads}_s{s}_c{c}_d{d}_{dtype}{'_ring' if ring else ''}"

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        cache: T.Buffer((1, heads, c, d), dtype),  # type: ignore[valid-type]
        rows: T.Buffer((1, heads, s, d), dtype),  # type: ignore[valid-type]
        start: T.Buffer((1,), "int64"),  # type: ignore[valid-type]
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        for h in T.serial(heads):
            for i in T.serial(s):
                row = T.meta_var(start[0] + T.cast(i, "int64"))
                to = T.meta_var(T.floormod(row, T.int64(c)) if ring else row)
                for j in T.serial(d):
                    cache[0, h, to, j] = rows[0, h, i, j]

    return kernel
