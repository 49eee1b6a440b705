"""Columns of a unit that adds floats in float32."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned

from ladder.codegen.hardware.columns import Column
from ladder.codegen.hardware.float_reference import SINGLE
from ladder.codegen.hardware.floats import Term, aligned_sum, float_term, product_term
from ladder.hardware.tensor_cores import ACTIVATIONS, TensorCore

ENTRY = ACTIVATIONS["fp16"]  # what tables of float activations hold


class FloatLookUp(Column):
    """Half a table of float16 sums; the highest bit of a weight negates the entry."""

    def __init__(self, core: TensorCore):
        super().__init__(core, 1 << core.k - 1, unsigned(ENTRY.bits), core.k, unsigned(32))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for total, row in zip(self.sums, self.operands, strict=True):
            entry = float_term(_held(m, Array(row)[self.weight[:-1]]), ENTRY)
            term = Term(entry.sign ^ self.weight[-1], entry.exponent, entry.magnitude)
            doubled = Cat(total[:23], (total[23:31] + total[23:31].any())[:8], total[-1])
            before = _held(m, Mux(self.start, 0, Mux(self.plane, doubled, total)))
            m.d.sync += total.eq(aligned_sum(m, [term, float_term(before, SINGLE)]))
        return m


class FloatMultiply(Column):
    """Exact products of floats. They have registers before they are added."""

    def __init__(self, core: TensorCore):
        bits = core.activation.bits
        super().__init__(core, core.k, unsigned(bits), bits * core.k, unsigned(32))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        first = Signal()
        m.d.sync += first.eq(self.start)
        kind = self.core.activation
        for total, row in zip(self.sums, self.operands, strict=True):
            weights = [self.weight.word_select(i, kind.bits) for i in range(self.core.k)]
            products = [product_term(m, x, w, kind) for x, w in zip(row, weights, strict=True)]
            terms = [_registered(m, term) for term in products]
            before = _held(m, Mux(first, 0, total))
            m.d.sync += total.eq(aligned_sum(m, [*terms, float_term(before, SINGLE)]))
        return m


def _registered(m: Module, term: Term) -> Term:
    held = Term(*(Signal(bits, reset_less=True) for bits in (1, 8, len(term.magnitude))))
    m.d.sync += [
        held.sign.eq(term.sign),
        held.exponent.eq(term.exponent),
        held.magnitude.eq(term.magnitude),
    ]
    return held


def _held(m: Module, value: Value) -> Signal:
    result = Signal(len(value))
    m.d.comb += result.eq(value)
    return result
