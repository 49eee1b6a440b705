"""RMSNormalization over the last axis."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import sum_lanes
from ladder.codegen.kernels.vector import lanes, splat

WIDTH = 16


@cache
def rms_norm(k: int, epsilon: float, parallel: bool) -> Any:
    """x [M, K] float32, weight [K] -> x / sqrt(mean(x^2) + epsilon) * weight, [M, K]."""
    name = f"rms_norm_k{k}" + ("_parallel" if parallel else "")
    whole = k // WIDTH * WIDTH

    @T.inline
    def row(x, weight, out, m):  # type: ignore[no-untyped-def]
        acc = T.alloc_buffer((WIDTH,), "float32", scope="local")
        square = T.alloc_buffer((1,), "float32", scope="local")
        acc[lanes(0)] = splat(T.float32(0), WIDTH)
        for i in T.serial(whole // WIDTH):
            acc[lanes(0)] = acc[lanes(0)] + x[m, lanes(i * WIDTH)] * x[m, lanes(i * WIDTH)]
        square[0] = sum_lanes(acc[lanes(0)])
        for i in T.serial(k - whole):
            square[0] = square[0] + x[m, whole + i] * x[m, whole + i]
        square[0] = T.float32(1) / T.sqrt(square[0] / T.float32(k) + T.float32(epsilon))
        for i in T.serial(whole // WIDTH):
            out[m, lanes(i * WIDTH)] = (
                x[m, lanes(i * WIDTH)] * splat(square[0], WIDTH) * weight[lanes(i * WIDTH)]
            )
        for i in T.serial(k - whole):
            out[m, whole + i] = x[m, whole + i] * square[0] * weight[whole + i]

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, weight_: T.handle, out_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M = T.int64()
        x = T.match_buffer(x_, (M, k), "float32")
        weight = T.match_buffer(weight_, (k,), "float32")
        out = T.match_buffer(out_, (M, k), "float32")
        if parallel:
            for m in T.parallel(M):
                row(x, weight, out, m)
        else:
            for m in T.serial(M):
                row(x, weight, out, m)

    return kernel
