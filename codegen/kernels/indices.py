"""Indices: those inside their axes, so that a look-up stays in its buffer, and their order."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from tvm.script import tirx as T


@cache
def inside(rank: int, dtype: str, wrap: bool, message: str) -> Any:
    """Indices [M, rank] of sizes [rank] -> the same from 0 up, int64; ``message`` if outside.

    With ``wrap``, -1 is the last one. Nothing is written for an index outside, and the call fails.
    """
    digest = hashlib.sha256(message.encode()).hexdigest()[:12]
    name = f"inside_{rank}_{dtype}_{'wrapped' if wrap else 'plain'}_{digest}"

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        ids_: T.handle, sizes_: T.handle, out_: T.handle
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        m = T.int64()
        ids = T.match_buffer(ids_, (m, rank), dtype)
        sizes = T.match_buffer(sizes_, (rank,), "int64")
        out = T.match_buffer(out_, (m, rank), "int64")
        for i in T.serial(m):
            for r in T.serial(rank):
                at = T.meta_var(T.cast(ids[i, r], "int64"))
                least = T.meta_var(-sizes[r] if wrap else T.int64(0))
                assert least <= at and at < sizes[r], message
                out[i, r] = T.if_then_else(at < T.int64(0), at + sizes[r], at)

    return kernel


@cache
def grouped(count: int) -> Any:
    """ids [M] below ``count`` -> the places [M] of equal ones one after the other, int64."""

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(ids_: T.handle, order_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": f"grouped_{count}", "tirx.noalias": True})
        m = T.int64()
        ids = T.match_buffer(ids_, (m,), "int64")
        order = T.match_buffer(order_, (m,), "int64")
        place = T.alloc_buffer((count + 1,), "int64")
        for e in T.serial(count + 1):
            place[e] = T.int64(0)
        for i in T.serial(m):
            place[ids[i] + 1] = place[ids[i] + 1] + T.int64(1)
        for e in T.serial(count):
            place[e + 1] = place[e + 1] + place[e]
        for i in T.serial(m):
            order[place[ids[i]]] = i
            place[ids[i]] = place[ids[i]] + T.int64(1)

    return kernel
