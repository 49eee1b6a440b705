"""``ladder bench kernel --outliers``: time a muxed product and the plain one in turns.

Both have the same type, activations and shape; the muxed one also multiplies chunks of outliers.
The kernel that quantizes the activation is timed too, because it collects the outliers' digits.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import Level
from ladder.ir.activation import BLOCK, QUANTIZED, block_of, parse_mode, table_mode
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

if TYPE_CHECKING:  # TVM is loaded only when it is needed
    from ladder.codegen.layout import Packing

SECONDS, ROUNDS = 0.02, 120  # of a turn, and turns of each: short, because the load varies
OUTLIERS = ("starts", "numbers")  # operands that hold the positions of outliers
MUXED_TILES = "they have no place for outliers"
Run = Callable[[int], Any]  # takes the number of the call; the result is not used


@dataclass(frozen=True)
class Product:
    """The timed product: type, shape, activations, and outliers (None: plain)."""

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
        """The layout of the outliers; None without outliers."""
        from ladder.codegen.mux_layout import AuxLayout

        if self.mux is None:
            return None
        channels = np.array(self.channels, np.int64)
        unit = self.dtype.element.storage.unit_chunks
        return AuxLayout.of(channels, self.k, self.block, self.mux, unit)

    @property
    def whole(self) -> bool:
        """Whether one integer sum covers all of K."""
        return self.block >= self.k and QUANTIZED[self.mode].granularity != BLOCK

    def sizes(self) -> dict[str, int]:
        """The sizes for the letters in the shapes of operands."""
        from ladder.codegen.layout import blocks_of, chunks_of, total_chunks

        layout = self.layout()
        chunks = chunks_of(self.k) if self.whole else total_chunks(self.k, self.block)
        blocks, chunks = blocks_of(self.k, self.block), layout.chunks if layout else chunks
        return {"M": self.m, "N": self.n, "K": self.k, "B": blocks, "C": chunks}

    def runs(self) -> tuple[Run, Run, int]:
        """Calls of the activation's kernel and of the product's, and the bytes of the weight."""
        import tvm

        from ladder.codegen.kernels.signature import in_order, read_operands

        op, sizes = f"{self.scheme}_gemm", self.sizes()
        quantize, codes = self._quantize(sizes)
        quantize(0)
        read = read_operands(op, table_mode(self.mode))
        first = codes["out"]
        if self.scheme == "lut":
            first = _tensor(read[0].sized(**sizes), read[0].dtype)
        found = {read[0].name: first, "a_scale": codes["scale"], "a_total": codes["total"]}
        packing = packing_of(self.dtype, self.mode, self.k, self.mux is not None)
        weights = self._weights(op, packing)
        copies = rotated([*weights.values()])
        sets = [[tvm.runtime.from_dlpack(a) for a in copy] for copy in copies]
        library = compiled(packing, self.mode, self.scheme, self.level.name)
        activation, out = in_order(read, found), _tensor((self.m, self.n), "float32")

        def product(i: int) -> Any:
            return library["main"](*activation, *sets[i % len(sets)], out)

        return quantize, product, sum(a.nbytes for n, a in weights.items() if n not in OUTLIERS)

    def _quantize(self, sizes: dict[str, int]) -> tuple[Run, dict[str, Any]]:
        """Calls of the activation's kernel, and its outputs by the names of operands."""
        import tvm

        from ladder.codegen.kernels.quantize import quantize_activation
        from ladder.codegen.kernels.signature import in_order, quantize_operands

        x = np.random.default_rng(2).standard_normal((self.m, self.k)).astype(np.float32)
        arrays, layout = {"x": x, "static": np.array([0.03], np.float32)}, self.layout()
        if layout is not None:
            x[:, list(self.channels)] *= 50
            arrays |= {"small": layout.small, "outliers": layout.table}
        operands = quantize_operands(self.mode, muxed=layout is not None)
        block = 0 if self.whole else self.block
        func = quantize_activation(self.mode, block, self.m > 1, mux=self.mux)
        target = tvm.target.Target(dict(self.level.llvm))
        built = tvm.compile(tvm.IRModule({"main": func}), target=target)["main"]
        written = {o.name: _tensor(o.sized(**sizes), o.dtype) for o in operands if o.written}
        given = {name: tvm.runtime.tensor(array) for name, array in arrays.items()}
        arguments = in_order(operands, {**given, **written})
        return lambda _: built(*arguments), written

    def _weights(self, op: str, packing: Packing) -> dict[str, np.ndarray]:
        """Random weights by the names of a kernel's operands, in order."""
        from ladder.codegen.kernels.signature import present, weight_operands
        from ladder.codegen.packing import StoredWeight

        parts = random_weight(self.dtype, self.n, self.k)
        stored = StoredWeight(self.dtype, parts, self.layout())
        return {o.name: stored.operand(o.name) for o in present(weight_operands(op, packing))}


def bench_mux(
    type: str, shape: str, activation: str, scheme: str, target: str, outliers: float, mux: str
) -> dict[str, Any]:
    """Time the muxed and the plain product in turns, and their activations; return the ratios.

    ``outliers`` is the share of K that is outliers, at random positions.
    """
    (m, n, k), level, dtype = parse_shape(shape), level_here(target), DType.parse(type)
    mode, how, count = parse_mode(activation).name, Mux.parse(mux), max(1, round(outliers * k))
    if not 0 < outliers < 1 or scheme not in SCHEMES:
        what = f"--outliers {outliers}: give a share of K, for example 0.01"
        raise LadderError(what if scheme in SCHEMES else f"unknown scheme '{scheme}'")
    why = how.refuse(mode, dtype, k, count)
    if why is not None or dtype.tensor_scale:
        raise LadderError(f"{dtype} with {mode} and {count} outliers cannot be muxed: {why}")
    chosen = choose(dtype, mode, m, machine_of(level.name), scheme, MUXED_TILES)
    channels = np.sort(np.random.default_rng(3).choice(k, count, replace=False))
    plain = Product(dtype, mode, chosen.scheme, m, n, k, level)
    muxed = Product(dtype, mode, chosen.scheme, m, n, k, level, how, tuple(channels.tolist()))
    (quantize, product, bytes_), (digits, muxed_product, muxed_bytes) = plain.runs(), muxed.runs()
    # With one thread, CPU time is less noisy than wall time if other processes run.
    clock = time.process_time if threads() == 1 else time.perf_counter
    times = in_turns([product, muxed_product], SECONDS, ROUNDS, clock)
    rounding = in_turns([quantize, digits], SECONDS / 10, ROUNDS, clock)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    plain_s, muxed_s, plain_a, muxed_a = (statistics.median(t) for t in (*times, *rounding))
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
    """Mean seconds of a call in every round, for each of ``runs``, which take turns.

    The call number continues from turn to turn, so that the copies of weights rotate.
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
