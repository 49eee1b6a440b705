"""Run a unit in Amaranth's simulator."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Signal
from amaranth.sim import Simulator, SimulatorContext

from ladder.codegen.hardware.columns import Placed
from ladder.codegen.hardware.reference import I64
from ladder.codegen.hardware.streams import Stream
from ladder.codegen.hardware.unit import Unit
from ladder.hardware.tensor_cores import TensorCore

PERIOD = 8e-9


def simulate(core: TensorCore, stream: Stream) -> I64:
    """The sums [N, M] after a stream."""
    unit = Unit(core)
    found: list[list[int]] = []

    async def bench(context: SimulatorContext) -> None:
        for cycle in range(stream.cycles + latency(core)):
            _feed(context, unit, stream, cycle)
            await context.tick()
        found.extend([[context.get(s) for s in column] for column in unit.sums])

    simulator = Simulator(Placed(unit))
    simulator.add_clock(PERIOD)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(found)


def latency(core: TensorCore) -> int:
    """Cycles from the last activations to the sums."""
    return 2 if core.kind == "multiply" else 1


def _feed(context: SimulatorContext, unit: Unit, stream: Stream, cycle: int) -> None:
    if cycle < stream.cycles:
        for row, values in zip(unit.x, stream.x[cycle], strict=True):
            for signal, value in zip(row, values, strict=True):
                context.set(signal, _fitted(signal, value))
    if 0 <= cycle - 1 < stream.cycles:
        for signal, value in zip(unit.weight, stream.weight[cycle - 1], strict=True):
            context.set(signal, _fitted(signal, value))
        context.set(unit.start, int(stream.start[cycle - 1]))
        context.set(unit.plane, int(stream.plane[cycle - 1]))
    elif cycle > stream.cycles:
        context.set(unit.start, 0)
        context.set(unit.plane, 0)


def _fitted(signal: Signal, value: np.int64) -> int:
    """Bits that a signed NumPy number holds are its value where the signal has no sign."""
    return int(value) if signal.shape().signed else int(value) & (1 << len(signal)) - 1
