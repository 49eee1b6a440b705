"""``ladder bench kernel --outliers``: a muxed product beside the plain one, in turns.

Both have the same type, activations and shape; the muxed one multiplies chunks of outliers first.
The kernel that quantizes the activation is timed beside, for it gathers the outliers' digits.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import Level
from ladder.ir.activation import BLOCK, QUANTIZED, STATIC, block_of, parse_mode
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux
from ladder.passes.kernel_choice import SCHEMES, choose
from ladder.runtime.session import aligned_zeros, threads
from ladder.timing.cost_tables import machine_of
from ladder.timing.product import (
    compiled,
    level_here,
    packing_of,
    parse_shape,
    random_weight,
    rotated,
)

SECONDS, ROUNDS = 0.02, 120  # of one turn, and how many turns each gets: short, for the load varies
MUXED_TILES = "outliers have no place in them"
Run = Callable[[int], Any]  # number of the call -> nothing of interest


@dataclass(frozen=True)
class Product:
    """What is timed: a type's product at a shape, its activations and outliers (None: plain)."""

    dtype: DType
    mode: str
    scheme: str
    m: int
    n: int
    k: int
    level: Level
    mux: Mux | None = None
    channels: tuple[int, ...] = ()

    @property
    def block(self) -> int:
        return block_of(self.dtype, self.mode, self.k)

    def layout(self) -> Any:
        """Where the outliers go."""
        from ladder.codegen.mux_layout import AuxLayout

        assert self.mux is not None
        channels = np.array(self.channels, np.int64)
        return AuxLayout.of(channels, self.k, self.block, self.mux, self.dtype.element.trits)

    def runs(self) -> tuple[Run, Run, int]:
        """Calls of the activation's kernel and of the product's, and the weight's bytes."""
        import tvm

        from ladder.codegen.layout import chunks_of

        split = not QUANTIZED[self.mode].exact_tables_fit_a_byte
        whole = self.block >= self.k and QUANTIZED[self.mode].granularity != BLOCK
        blocks, chunks = -(-self.k // self.block), chunks_of(self.k)
        if not whole:
            chunks = self.k // self.block * chunks_of(self.block) + chunks_of(self.k % self.block)
        weights, told = self._weights(), []
        if self.mux is not None:
            layout = self.layout()
            chunks, told = layout.chunks, [layout.starts, layout.numbers]
        q = _tensor((self.m, chunks, 16), "int8")
        scale = _tensor((self.m, blocks), "float32")
        total = _tensor((self.m, blocks), "int32")
        quantize = self._quantize(0 if whole else self.block, [q, scale, total])
        quantize(0)
        first = q
        if self.scheme == "lut":
            first = _tensor((self.m, chunks, *((2, 64) if split else (64,))), "int8")
        out = _tensor((self.m, self.n), "float32")
        sets = [[tvm.runtime.from_dlpack(a) for a in copy] for copy in rotated(weights)]
        told = [tvm.runtime.tensor(a) for a in told]
        packing = packing_of(self.dtype, self.mode, self.k, self.mux is not None)
        library = compiled(packing, self.mode, self.scheme, self.level.name)

        def product(i: int) -> Any:
            return library["main"](first, scale, total, *sets[i % len(sets)], *told, out)

        return quantize, product, sum(a.nbytes for a in weights)

    def _quantize(self, block: int, out: list[Any]) -> Run:
        import tvm

        from ladder.codegen.kernels.quantize import quantize_activation

        x = np.random.default_rng(2).standard_normal((self.m, self.k)).astype(np.float32)
        operands: list[np.ndarray] = [x]
        if QUANTIZED[self.mode].granularity == STATIC:
            operands.append(np.array([0.03], np.float32))
        if self.mux is not None:
            x[:, list(self.channels)] *= 50
            operands += [self.layout().small, self.layout().table]
        func = quantize_activation(self.mode, block, self.m > 1, mux=self.mux)
        target = tvm.target.Target(dict(self.level.llvm))
        built = tvm.compile(tvm.IRModule({"main": func}), target=target)["main"]
        given = [tvm.runtime.tensor(array) for array in operands]
        return lambda _: built(*given, *out)

    def _weights(self) -> list[np.ndarray]:
        """Random weights in the order of a kernel's operands."""
        from ladder.codegen.layout import Packing, pack_codes, pack_rows
        from ladder.codegen.packing import stored_bits

        dtype, packing = self.dtype, Packing.of(self.dtype)
        codes, *rows = random_weight(dtype, self.n, self.k)
        u = dtype.element.to_unsigned(codes)
        planes = pack_codes(u, packing) if self.mux is None else self.layout().pack(u, packing)
        kinds = [packing.scale, packing.scale if packing.zero == "zpf" else ""]
        stored = [stored_bits(a, kind) if kind else a for a, kind in zip(rows, kinds, strict=False)]
        return [planes, *(pack_rows(a, dtype, self.n, self.k) for a in stored)]


def bench_mux(
    type: str, shape: str, activation: str, scheme: str, target: str, outliers: float, mux: str
) -> dict[str, Any]:
    """Seconds of the muxed product over those of the plain one, in turns, and of activations.

    ``outliers`` is their part of K, spread at random.
    """
    (m, n, k), level, dtype = parse_shape(shape), level_here(target), DType.parse(type)
    mode, how, count = parse_mode(activation).name, Mux.parse(mux), max(1, round(outliers * k))
    if not 0 < outliers < 1 or scheme not in SCHEMES:
        what = f"--outliers {outliers}: give a part of K, for example 0.01"
        raise LadderError(what if scheme in SCHEMES else f"unknown scheme '{scheme}'")
    why = how.refuse(mode, dtype, k, count)
    if why is not None or dtype.tensor_scale:
        raise LadderError(f"{dtype} with {mode} and {count} outliers cannot be muxed: {why}")
    chosen = choose(dtype, mode, m, machine_of(level.name), scheme, MUXED_TILES)
    channels = np.sort(np.random.default_rng(3).choice(k, count, replace=False))
    plain = Product(dtype, mode, chosen.scheme, m, n, k, level)
    muxed = Product(dtype, mode, chosen.scheme, m, n, k, level, how, tuple(channels.tolist()))
    (quantize, product, bytes_), (digits, muxed_product, muxed_bytes) = plain.runs(), muxed.runs()
    # One thread's own time says more than the wall's where others are at work, too.
    clock = time.process_time if threads() == 1 else time.perf_counter
    times = in_turns([product, muxed_product], SECONDS, ROUNDS, clock)
    beside = in_turns([quantize, digits], SECONDS / 10, ROUNDS, clock)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    plain_s, muxed_s, plain_a, muxed_a = (statistics.median(t) for t in (*times, *beside))
    return {
        "type": str(dtype),
        "shape": f"{m}x{n}x{k}",
        "activation": mode,
        "scheme": chosen.scheme,
        "mux": str(how),
        "outliers": count,
        "isa": level.name,
        "threads": threads(),
        "clock": "CPU" if threads() == 1 else "wall",
        "plain_s": plain_s,
        "muxed_s": muxed_s,
        "cost": statistics.median(ratios) - 1,
        "cost_quartiles": [q - 1 for q in statistics.quantiles(ratios, n=4)[::2]],
        "cost_of_least": min(times[1]) / min(times[0]) - 1,
        "bytes_cost": muxed_bytes / bytes_ - 1,
        "plain_activation_s": plain_a,
        "muxed_activation_s": muxed_a,
        "cost_with_activation": (muxed_s + muxed_a) / (plain_s + plain_a) - 1,
    }


def in_turns(
    runs: list[Run], seconds: float, rounds: int, clock: Callable[[], float]
) -> list[list[float]]:
    """Mean seconds of a call in every round, for each of ``runs``: they take turns.

    Calls are counted on from turn to turn, so that weights go round.
    """
    times: list[list[float]] = [[] for _ in runs]
    calls = [0 for _ in runs]
    for run in runs:
        run(0)
    for turn in range(rounds):
        order = range(len(runs)) if turn % 2 == 0 else reversed(range(len(runs)))
        for number in order:
            start, begin, first = clock(), time.perf_counter(), calls[number]
            while calls[number] == first or time.perf_counter() - begin < seconds:
                runs[number](calls[number])
                calls[number] += 1
            times[number].append((clock() - start) / (calls[number] - first))
    return times


def _tensor(shape: tuple[int, ...], dtype: str) -> Any:
    import tvm

    return tvm.runtime.from_dlpack(aligned_zeros(shape, dtype))
