"""RMSNormalization over the last axis."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.sources import inverse_rms, normalized
from ladder.codegen.kernels.vector import lanes
from ladder.codegen.layout import LANES


@cache
def rms_norm(epsilon: float, parallel: bool) -> Any:
    """x [M, K] float32, weight [K] -> x / sqrt(mean(x^2) + epsilon) * weight, [M, K]."""
    name = f"rms_norm_e{epsilon:g}" + ("_parallel" if parallel else "")
    tokens = T.parallel if parallel else T.serial

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, weight_: T.handle, out_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        M, K = T.int64(), T.int64()
        x = T.match_buffer(x_, (M, K), "float32")
        weight = T.match_buffer(weight_, (K,), "float32")
        out = T.match_buffer(out_, (M, K), "float32")
        for m in tokens(M):
            inverse = T.alloc_buffer((1,), "float32")
            inverse_rms(inverse, x, m, K, epsilon)
            for i in T.serial(K // LANES):
                at = T.meta_var(i * LANES)
                out[m, lanes(at)] = normalized(inverse, x, weight, m, at, LANES)
            for i in T.serial(K % LANES):
                tail = T.meta_var(K // LANES * LANES + i)
                out[m, tail] = normalized(inverse, x, weight, m, tail, 1)

    return kernel
