"""A whole unit: tables of M rows, broadcast to N columns.

In each cycle a unit takes the K activations of M rows. In the next one it takes the weights of N
columns for them, with ``start`` and ``plane`` (``ladder.codegen.hardware.columns``). One cycle
later (two, if it multiplies) the sums are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import (
    ClockSignal,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
    signed,
)

from ladder.codegen.hardware.columns import Adder, BitSerial, Column, LookUp, Multiply, Placed
from ladder.codegen.hardware.float_columns import FloatLookUp, FloatMultiply
from ladder.codegen.hardware.tables import full_table, half_table
from ladder.hardware.tensor_cores import Kind, TensorCore

COLUMN, BUFFER = "column", "broadcast"  # the names of modules in Verilog
FAN_OUT = 8  # columns that one buffer drives
COLUMNS: dict[tuple[Kind, bool], type[Column]] = {  # by kind, and whether it adds floats
    ("lookup", False): LookUp,
    ("bit-serial", False): BitSerial,
    ("adder", False): Adder,
    ("multiply", False): Multiply,
    ("lookup", True): FloatLookUp,
    ("multiply", True): FloatMultiply,
}


def column_of(core: TensorCore) -> Column:
    """A column of the unit."""
    return COLUMNS[core.kind, core.adds_floats](core)


class Unit:
    """``x`` [M][K] activations, ``weight`` [N], ``sums`` [N][M].

    A unit whose tables are rounded does not compute them: ``x`` [M][2^(K-1)] are their entries.
    With ``instances`` the columns are instances of one module ``column``, which is written once.
    """

    def __init__(self, core: TensorCore, instances: bool = False):
        self.core, self.instances = core, instances
        self.column = column_of(core)  # one of them, for its shapes
        operand = self.column.operands[0][0].shape()
        count = len(self.column.operands[0]) if self._loaded else core.k
        shape = operand if self._loaded else signed(core.activation.bits)
        self.x = [
            [Signal(shape, name=f"x{row}_{i}") for i in range(count)] for row in range(core.m)
        ]
        width = len(self.column.weight)
        self.weight = [Signal(width, name=f"weight{n}") for n in range(core.n)]
        self.start, self.plane = Signal(name="start"), Signal(name="plane")
        self.sums = [
            [Signal.like(total, name=f"sum{n}_{row}") for row, total in enumerate(self.column.sums)]
            for n in range(core.n)
        ]

    @property
    def _loaded(self) -> bool:
        """Whether what columns read is given, and not computed."""
        return self.core.kind in ("adder", "multiply") or self.core.table_bits > 0

    @property
    def ports(self) -> list[Signal]:
        x = [signal for row in self.x for signal in row]
        sums = [signal for column in self.sums for signal in column]
        return [*x, *self.weight, self.start, self.plane, *sums]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows = [self._held(m, row, index) for index, row in enumerate(self.x)]
        for first in range(0, self.core.n, FAN_OUT):
            start, plane = self._buffered(m, [self.start, self.plane])
            near = [self._buffered(m, row) for row in rows]
            for n in range(first, min(first + FAN_OUT, self.core.n)):
                self._column(m, n, [start, plane], near)
        return m

    def _column(
        self, m: Module, n: int, control: Sequence[Signal], rows: Sequence[Sequence[Signal]]
    ) -> None:
        column = column_of(self.core)
        m.submodules[f"column{n}"] = _instance(column) if self.instances else Placed(column)
        pairs = [(column.start, control[0]), (column.plane, control[1])]
        for inputs, values in zip(column.operands, rows, strict=True):
            pairs += zip(inputs, values, strict=True)
        pairs += [(column.weight, self.weight[n]), *zip(self.sums[n], column.sums, strict=True)]
        m.d.comb += [a.eq(b) for a, b in pairs]

    def _buffered(self, m: Module, signals: Sequence[Signal]) -> list[Signal]:
        """Copies for the next columns, which buffers of their own drive."""
        if not self.instances:
            return list(signals)
        copies = [Signal.like(signal) for signal in signals]
        for signal, copy in zip(signals, copies, strict=True):
            for bit in range(len(signal)):
                m.submodules += Instance(BUFFER, i_a=signal[bit], o_y=copy[bit])
        return copies

    def _held(self, m: Module, x: list[Signal], index: int) -> list[Signal]:
        """The registers that all columns read: a row's table, or its activations."""
        values = self._operands(m, x)
        shape = self.column.operands[0][0].shape()
        held = [Signal(shape, name=f"held{index}_{i}", reset_less=True) for i in range(len(values))]
        m.d.sync += [a.eq(b) for a, b in zip(held, values, strict=True)]
        return held

    def _operands(self, m: Module, x: list[Signal]) -> list[Value]:
        if self._loaded:
            return list(x)
        return full_table(m, x) if self.core.kind == "bit-serial" else half_table(m, x)


def _instance(column: Column) -> Instance:
    outputs = {id(signal) for signal in column.sums}
    ports = {
        f"{'o' if id(signal) in outputs else 'i'}_{signal.name}": signal for signal in column.ports
    }
    return Instance(COLUMN, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
