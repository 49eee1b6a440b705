"""Columns of a unit that adds integers: one column of weights, M rows of activations.

A column has no state but its accumulators. ``start`` begins a sum, ``plane`` doubles it before the
term is added: the planes of a weight are read from the highest bit down, so that no term has to be
shifted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Elaboratable, Module, Mux, Shape, Signal, Value, signed

from ladder.hardware.tensor_cores import TensorCore


class Placed(Elaboratable):  # type: ignore[misc]
    """A part that becomes hardware; a part by itself may be made only for its shapes."""

    def __init__(self, part: Any):
        self.part = part

    def elaborate(self, platform: Any) -> Module:
        module: Module = self.part.elaborate(platform)
        return module


class Column(ABC):
    """M accumulators that share a column of weights.

    ``operands`` is one list a row: the entries of its table, or its activations. ``sums`` are the
    accumulators, ``weight`` is what one cycle reads of the column's weights.
    """

    def __init__(
        self, core: TensorCore, operands: int, operand: Shape, weight_bits: int, total: Shape
    ):
        self.core = core
        self.operands = [
            [Signal(operand, name=f"operand{row}_{i}") for i in range(operands)]
            for row in range(core.m)
        ]
        self.weight = Signal(weight_bits, name="weight")
        self.start, self.plane = Signal(name="start"), Signal(name="plane")
        self.sums = [Signal(total, name=f"sum{row}", reset_less=True) for row in range(core.m)]

    @property
    def ports(self) -> list[Signal]:
        inputs = [signal for row in self.operands for signal in row]
        return [*inputs, self.weight, self.start, self.plane, *self.sums]

    @abstractmethod
    def elaborate(self, platform: Any) -> Module:
        """The hardware of the column."""


class SerialColumn(Column):
    """A column that reads one plane of its weights in each cycle and adds one term to each sum."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for total, row in zip(self.sums, self.operands, strict=True):
            before = Signal(total.shape())
            m.d.comb += before.eq(Mux(self.start, 0, Mux(self.plane, total << 1, total)))
            m.d.sync += total.eq(before + self.term(m, row))
        return m

    @abstractmethod
    def term(self, m: Module, row: Sequence[Value]) -> Value:
        """What one cycle adds to the sum of a row."""


class LookUp(SerialColumn):
    """Half a table: K-1 bits of the weight select an entry, the highest bit negates it."""

    def __init__(self, core: TensorCore):
        super().__init__(core, 1 << core.k - 1, signed(core.entry_bits), core.k, _sum(core))

    def term(self, m: Module, row: Sequence[Value]) -> Value:
        return _negated(m, Array(row)[self.weight[:-1]], self.weight[-1])


class BitSerial(SerialColumn):
    """A whole table of sums, for weights of 0 and 1 (UNPU): an entry more, but no sign."""

    def __init__(self, core: TensorCore):
        super().__init__(core, 1 << core.k, signed(core.entry_bits), core.k, _sum(core))

    def term(self, m: Module, row: Sequence[Value]) -> Value:
        return Array(row)[self.weight]


class Adder(SerialColumn):
    """No table: each of the K activations is negated or not, and all are added."""

    def __init__(self, core: TensorCore):
        super().__init__(core, core.k, signed(core.activation.bits), core.k, _sum(core))

    def term(self, m: Module, row: Sequence[Value]) -> Value:
        terms = [_negated(m, x, bit) for x, bit in zip(row, self.weight, strict=True)]
        return sum(terms[1:], terms[0])


class Multiply(Column):
    """Products of int8, added in a tree. The sum of the tree has a register of its own."""

    def __init__(self, core: TensorCore):
        super().__init__(core, core.k, signed(core.activation.bits), 8 * core.k, _sum(core))
        self.first = Signal()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.first.eq(self.start)
        for total, row in zip(self.sums, self.operands, strict=True):
            products = [x * self.weight.word_select(i, 8).as_signed() for i, x in enumerate(row)]
            tree = sum(products[1:], products[0])
            term = Signal(signed(len(tree)), reset_less=True)
            m.d.sync += [term.eq(tree), total.eq(Mux(self.first, 0, total) + term)]
        return m


def _sum(core: TensorCore) -> Shape:
    return signed(core.sum_bits)


def _negated(m: Module, value: Value, negate: Value) -> Value:
    """``value``, or its negation."""
    flipped = Signal(signed(len(value)))
    m.d.comb += flipped.eq(value ^ negate.replicate(len(value)))
    return flipped + negate
