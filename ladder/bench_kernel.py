"""``ladder bench kernel``: one low-bit product, timed over weights that no cache holds."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.runtime.session import aligned_zeros, threads
from ladder.targets import levels_of, runs_here

ROTATED_BYTES = 300e6  # copies of the weights, taken in turn
SECONDS, ROUNDS = 0.4, 5
DOT_FROM = 4


def parse_shape(text: str) -> tuple[int, int, int]:
    """``MxNxK`` -> (M, N, K)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise LadderError(f"--shape '{text}': write MxNxK, for example 1x4096x4096")
    m, n, k = (int(p) for p in parts)
    return m, n, k


def bench_kernel(
    type: str, shape: str, activation: str, scheme: str, target: str
) -> dict[str, Any]:
    """Median seconds of a product and the rate at which it reads weights, scales included."""
    import tvm

    from ladder.codegen.kernels.library import kernel, kernels_of
    from ladder.codegen.layout import Packing

    dtype, (m, n, k) = DType.parse(type), parse_shape(shape)
    level = levels_of(target)[-1]
    if not runs_here(level):
        raise LadderError(f"target {level.name}: this CPU cannot run it; see 'ladder targets'")
    packing = Packing.of(dtype)
    has_dot = "dot_gemm" in kernels_of(level.kernels)
    if scheme == "auto":
        scheme = "dot" if activation == "int8" and has_dot and m >= DOT_FROM else "lut"
    func = kernel(f"{scheme}_gemm", packing, activation, level.kernels)
    library = tvm.compile(tvm.IRModule({"main": func}), target=tvm.target.Target(dict(level.llvm)))
    first, weights = _operands(dtype, packing, m, n, k, f"{activation}.{scheme}")
    copies = _copies(weights)
    out = tvm.runtime.from_dlpack(aligned_zeros((m, n), "float32"))
    shared = [tvm.runtime.from_dlpack(a) for a in first]
    sets = [[tvm.runtime.from_dlpack(a) for a in copy] for copy in copies]
    median = _time(lambda weight: library["main"](*shared, *weight, out), sets)
    stored = sum(a.nbytes for a in weights)
    return {
        "type": str(dtype),
        "m": m,
        "n": n,
        "k": k,
        "activation": activation,
        "scheme": scheme,
        "isa": level.name,
        "threads": threads(),
        "bits_per_weight": 8 * stored / (n * k),
        "median_s": median,
        "weight_gb_per_s": stored / median / 1e9,
    }


def _operands(
    dtype: DType, packing: Any, m: int, n: int, k: int, kind: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random activation operands and random packed weights of the right shapes."""
    from ladder.codegen.layout import blocks_of, pack_rows, tiles_of, total_chunks

    random = np.random.default_rng(0)
    c, b = total_chunks(k, packing.block), blocks_of(k, packing.block)
    inner = {"int8.lut": (2, 64), "table8.lut": (64,), "int8.dot": (16,)}[kind]
    first = [
        _aligned(random.integers(-3, 4, (m, c, *inner)).astype(np.int8)),
        _aligned(random.random((m, b)).astype(np.float32)),
        _aligned(random.integers(-99, 99, (m, b)).astype(np.int32)),
    ]
    words = random.integers(-(2**31), 2**31, (tiles_of(n), c, packing.bits, 2, 16))
    scale = random.random(dtype.scale_shape(n, k)).astype(np.float32)
    weights = [_aligned(words.astype(np.int32)), _aligned(pack_rows(scale, dtype, n, k))]
    if dtype.zero_point:
        zero = np.ones(dtype.scale_shape(n, k), np.uint8)
        weights.append(_aligned(pack_rows(zero, dtype, n, k)))
    return first, weights


def _aligned(array: np.ndarray) -> np.ndarray:
    out = aligned_zeros(array.shape, array.dtype)
    out[...] = array
    return out


def _copies(weights: list[np.ndarray]) -> list[list[np.ndarray]]:
    size = sum(a.nbytes for a in weights)
    return [weights, *([_aligned(a) for a in weights] for _ in range(int(ROTATED_BYTES // size)))]


def _time(call: Any, sets: list[Any]) -> float:
    """Median over rounds of the mean seconds of a call, the weight sets taken in turn."""
    for weight in sets:
        call(weight)
    rounds = []
    for _ in range(ROUNDS):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            call(sets[done % len(sets)])
            done += 1
        rounds.append((time.perf_counter() - start) / done)
    return statistics.median(rounds)
