"""``ladder bench kernel``: time a low-bit product with weights that no processor cache holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level, levels_of, runs_here
from ladder.ir.activation import FLOAT, block_of, check, table_mode
from ladder.ir.dtype import SCALES, DType
from ladder.passes.kernel_choice import SCHEMES, choose, no_tiles
from ladder.runtime.manifest import ALIGNMENT
from ladder.runtime.session import aligned_zeros, threads
from ladder.support.suggest import did_you_mean
from ladder.timing import kernel_cache
from ladder.timing.cost_tables import machine_of
from ladder.timing.rotation import ROTATED_BYTES, copies_of
from ladder.timing.steadiness import timed_calls

if TYPE_CHECKING:  # TVM is loaded only when it is needed
    from ladder.codegen.layout import Packing

SECONDS, ROUNDS = 0.4, 5
Call = Callable[[list[Any]], Any]  # takes the weights; the result is not used


def parse_shape(text: str) -> tuple[int, int, int]:
    """``MxNxK`` -> (M, N, K)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(re.fullmatch("[1-9][0-9]{0,9}", part) for part in parts):
        raise LadderError(f"--shape '{text}': write MxNxK, for example 1x4096x4096")
    m, n, k = (int(p) for p in parts)
    return m, n, k


def level_here(target: str) -> Level:
    """The highest level of a target; refuse it if this CPU cannot run it."""
    level = levels_of(target)[-1]
    if not runs_here(level):
        raise LadderError(f"target {level.name}: this CPU cannot run it; see 'ladder targets'")
    return level


def bench_kernel(
    type: str, shape: str, activation: str, scheme: str, target: str
) -> dict[str, Any]:
    """Median seconds of a product and the rate at which it reads weights, scales included."""
    if scheme not in SCHEMES:
        near = did_you_mean(scheme, SCHEMES)
        raise LadderError(f"unknown scheme '{scheme}'; one of: {', '.join(SCHEMES)}{near}")
    dtype, (m, n, k), level = DType.parse(type), parse_shape(shape), level_here(target)
    if dtype.is_float or check(activation) == FLOAT:
        raise LadderError("bench kernel times integer products: give a low-bit type and int8")
    chosen = choose(
        dtype, check(activation), m, machine_of(level.name), scheme, no_tiles(dtype, activation, k)
    )
    call, sets, stored = prepared(dtype, m, n, k, chosen.activation, chosen.scheme, level)
    median, spread = time_calls(call, sets)
    return {
        "type": str(dtype),
        "m": m,
        "n": n,
        "k": k,
        "activation": chosen.activation,
        "scheme": chosen.scheme,
        "reason": chosen.reason,
        "isa": level.name,
        "threads": threads(),
        "bits_per_weight": 8 * stored / (n * k),
        "median_s": median,
        "spread_s": spread,
        "weight_gb_per_s": stored / median / 1e9,
        "rotated_bytes": stored * len(sets),
    }


def prepared(
    dtype: DType, m: int, n: int, k: int, activation: str, scheme: str, level: Level
) -> tuple[Call, list[Any], int]:
    """A compiled product, several copies of its weights, and the bytes of one copy."""
    call_of, sets, stored = loaded(dtype, n, k, activation, scheme, level)
    return call_of(m), sets, stored


def loaded(
    dtype: DType, n: int, k: int, activation: str, scheme: str, level: Level, size: float = 0
) -> tuple[Callable[[int], Call], list[Any], int]:
    """Like ``prepared`` for any M: the first function takes M. ``size`` as in ``rotated``."""
    import tvm

    library = compiled(packing_of(dtype, activation, k), activation, scheme, level.name)
    weights = packed_weights(dtype, n, k, scheme, activation)
    sets = [[tvm.runtime.from_dlpack(a) for a in copy] for copy in rotated(weights, size)]

    def call_of(m: int) -> Call:
        out = tvm.runtime.from_dlpack(aligned_zeros((m, n), "float32"))
        shared = [
            tvm.runtime.from_dlpack(a) for a in random_activations(dtype, m, k, scheme, activation)
        ]
        return lambda weight: library["main"](*shared, *weight, out)

    return call_of, sets, sum(a.nbytes for a in weights)


def packing_of(dtype: DType, activation: str, k: int, mux: bool = False) -> Packing:
    """The packing of a product, with one sum over all of K if the mode allows it."""
    from ladder.codegen.layout import Packing

    return Packing.of(dtype, block_of(dtype, activation, k) != dtype.block, mux)


@lru_cache(maxsize=256)
def compiled(packing: Packing, activation: str, scheme: str, level: str) -> Any:
    """The kernel of a product for any shape, from the level's library if it was built."""
    import tvm

    from ladder.codegen.kernels.library import kernel, name_of

    target, mode = LEVELS[level], table_mode(activation)
    func = kernel(f"{scheme}_gemm", packing, mode, target.kernels)
    found = kernel_cache.function(name_of(func), level)
    if found is not None:
        return {"main": found}
    return tvm.compile(tvm.IRModule({"main": func}), target=tvm.target.Target(dict(target.llvm)))


def random_weight(dtype: DType, n: int, k: int) -> list[np.ndarray]:
    """A random weight as operands of the dialect: codes, scales, and the type's other parts."""
    random, element = np.random.default_rng(0), dtype.element
    used = np.flatnonzero(np.isfinite(element.values)).astype(np.uint8)
    shape = dtype.scale_shape(n, k)
    codes = element.from_unsigned(random.choice(used, (n, k)))
    parts = [codes, (random.random(shape) + 0.5).astype(SCALES[dtype.scale])]
    if dtype.zero_point:
        kind = dtype.zero_kind if dtype.float_zero else element.onnx.numpy()
        parts.append(random.integers(0, 1 << element.bits, shape).astype(kind))
    return parts + ([np.array(0.5, np.float32)] if dtype.tensor_scale else [])


def packed_weights(dtype: DType, n: int, k: int, scheme: str, activation: str) -> list[np.ndarray]:
    """Random weights, packed as in an artifact, in the order of a kernel's operands."""
    from ladder.codegen.kernels.signature import present, weight_operands
    from ladder.codegen.packing import StoredWeight

    stored = StoredWeight(dtype, random_weight(dtype, n, k))
    order = present(weight_operands(f"{scheme}_gemm", packing_of(dtype, activation, k)))
    return [_aligned(stored.operand(operand.name)) for operand in order]


def random_activations(
    dtype: DType, m: int, k: int, scheme: str, activation: str
) -> list[np.ndarray]:
    """The operands of a product that come from the activation, in the kernel's order."""
    from ladder.codegen.kernels.signature import in_order, read_operands, two_planes
    from ladder.codegen.layout import blocks_of, chunk_starts, total_chunks

    random, block = np.random.default_rng(1), block_of(dtype, activation, k)
    c, b = total_chunks(k, packing_of(dtype, activation, k).block), blocks_of(k, block)
    read = read_operands(f"{scheme}_gemm", table_mode(activation))
    codes = random.integers(-3, 4, read[0].sized(M=m, C=c)).astype(np.int8)
    total = random.integers(-99, 99, (m, b)).astype(np.int32)
    # Kernels rely on this: totals are sums of codes, and two-byte entries are sums of codes.
    if scheme != "lut":
        total = np.add.reduceat(codes.sum(-1), chunk_starts(k, block), 1).astype(np.int32)
    elif two_planes(activation):
        codes[..., 1, :] = codes[..., 1, :].clip(-1, 1)
    scale = random.random((m, b)).astype(np.float32)
    found: dict[str, np.ndarray] = {read[0].name: codes, "a_scale": scale, "a_total": total}
    return [_aligned(array) for array in in_order(read, found)]


def _aligned(array: np.ndarray) -> np.ndarray:
    out = aligned_zeros(array.shape, array.dtype)
    out[...] = array
    return out


def rotated(weights: list[np.ndarray], size: float = 0) -> list[list[np.ndarray]]:
    """Copies of the weights with over ``size`` bytes in total (0: more than any cache holds)."""
    copies = copies_of(sum(a.nbytes for a in weights), size or ROTATED_BYTES)
    return [list(row) for row in zip(*(_copies(a, copies) for a in weights), strict=True)]


def _copies(array: np.ndarray, count: int) -> list[np.ndarray]:
    """Copies in one array, because NumPy asks for large pages if an array is large.

    The weights of an artifact, a mapped file, are read as fast as from large pages.
    """
    size = -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    whole = aligned_zeros((count, size), "uint8")
    out = [row[: array.nbytes].view(array.dtype).reshape(array.shape) for row in whole]
    for copy in out:
        copy[...] = array
    return out


def time_calls(
    call: Callable[[Any], Any], sets: list[Any], seconds: float = SECONDS, rounds: int = ROUNDS
) -> tuple[float, float]:
    """(median, spread) over rounds of the mean seconds of a call, with the weight sets in turn.

    The spread is the largest minus the smallest round. A call longer than a round is one round.
    """
    timed = timed_calls(call, sets, seconds, rounds)
    return timed.median, timed.range
