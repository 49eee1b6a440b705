"""A whole unit: tables of M rows, broadcast to N columns.

In each cycle a unit takes the K activations of M rows. In the next one it takes the weights of N
columns for them, with ``start`` and ``plane`` (``ladder.codegen.hardware.columns``). One cycle
later (two, if it multiplies) the sums are there.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal, Value, signed

from ladder.codegen.hardware.columns import Adder, BitSerial, Column, LookUp, Multiply
from ladder.codegen.hardware.tables import full_table, half_table
from ladder.hardware.tensor_cores import TensorCore

COLUMN = "column"  # the name of the module of a column in Verilog
COLUMNS = {"lookup": LookUp, "bit-serial": BitSerial, "adder": Adder, "multiply": Multiply}


class Unit(Elaboratable):
    """``x`` [M][K] activations, ``weight`` [N], ``sums`` [N][M].

    A unit whose tables are rounded does not compute them: ``x`` [M][2^(K-1)] are their entries.
    With ``instances`` the columns are instances of one module ``column``, which is written once.
    """

    def __init__(self, core: TensorCore, instances: bool = False):
        self.core, self.instances = core, instances
        self.column = COLUMNS[core.kind](core)  # one of them, for its shapes
        count, bits = core.k, core.activation.bits
        if core.table_bits:
            count, bits = 1 << core.k - 1, core.table_bits
        self.x = [
            [Signal(signed(bits), name=f"x{row}_{i}") for i in range(count)]
            for row in range(core.m)
        ]
        width = len(self.column.weight)
        self.weight = [Signal(width, name=f"weight{n}") for n in range(core.n)]
        self.start, self.plane = Signal(name="start"), Signal(name="plane")
        self.sums = [
            [Signal(signed(core.sum_bits), name=f"sum{n}_{row}") for row in range(core.m)]
            for n in range(core.n)
        ]

    @property
    def ports(self) -> list[Signal]:
        x = [signal for row in self.x for signal in row]
        sums = [signal for column in self.sums for signal in column]
        return [*x, *self.weight, self.start, self.plane, *sums]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows = [self._broadcast(m, row, index) for index, row in enumerate(self.x)]
        for n in range(self.core.n):
            column = COLUMNS[self.core.kind](self.core)
            m.submodules[f"column{n}"] = _instance(column) if self.instances else column
            m.d.comb += [
                column.weight.eq(self.weight[n]),
                column.start.eq(self.start),
                column.plane.eq(self.plane),
            ]
            for inputs, values in zip(column.operands, rows, strict=True):
                m.d.comb += [a.eq(b) for a, b in zip(inputs, values, strict=True)]
            m.d.comb += [a.eq(b) for a, b in zip(self.sums[n], column.sums, strict=True)]
        return m

    def _broadcast(self, m: Module, x: list[Signal], index: int) -> list[Signal]:
        """The registers that all columns read: a row's table, or its activations."""
        values = self._operands(m, x)
        shape = self.column.operands[0][0].shape()
        held = [Signal(shape, name=f"held{index}_{i}") for i in range(len(values))]
        m.d.sync += [a.eq(b) for a, b in zip(held, values, strict=True)]
        return held

    def _operands(self, m: Module, x: list[Signal]) -> list[Value]:
        if self.core.kind == "bit-serial":
            return full_table(m, x)
        if self.core.kind == "lookup" and not self.core.table_bits:
            return half_table(m, x)
        return list(x)


def _instance(column: Column) -> Instance:
    outputs = {id(signal) for signal in column.sums}
    ports = {
        f"{'o' if id(signal) in outputs else 'i'}_{signal.name}": signal
        for signal in column.ports
    }
    return Instance(COLUMN, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
