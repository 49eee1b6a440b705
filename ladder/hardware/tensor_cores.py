"""Tensor cores that look up instead of multiplying, and the units they are compared with.

A unit computes a tile each cycle: M rows of activations times N columns of weights, K deep. Source:
LUT Tensor Core, ISCA 2025 (arXiv 2408.06003). Light: the runtime imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ladder.errors import LadderError
from ladder.support.suggest import did_you_mean

Kind = Literal["lookup", "bit-serial", "adder", "multiply"]
# By kind: the unit reads weights bit by bit, one plane of a weight in each cycle.
SERIAL: dict[Kind, bool] = {"lookup": True, "bit-serial": True, "adder": True, "multiply": False}
INT8 = 127  # the largest code of an activation, and of an 8-bit weight
MOST_PLANES = 4  # bits of the widest weight that is read bit by bit


@dataclass(frozen=True)
class Activation:
    """A type of activations: an integer of ``bits``, or a float of ``exponent`` and ``mantissa``."""

    name: str
    bits: int
    exponent: int = 0
    mantissa: int = 0

    @property
    def is_float(self) -> bool:
        return self.exponent > 0

    @property
    def bias(self) -> int:
        """The exponent that stands for 2^0."""
        return (1 << self.exponent - 1) - 1


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("int8", 8),
        Activation("fp8", 8, 4, 3),
        Activation("fp16", 16, 5, 10),
    )
}


@dataclass(frozen=True)
class TensorCore:
    """A unit: its kind, its tile, its activations, and the longest exact sum.

    ``table_bits`` are those of an entry of a look-up table; 0 means all that the sums need.
    ``depth`` is the largest K whose integer sums cannot overflow the accumulators.
    """

    name: str
    kind: Kind
    m: int
    n: int
    k: int
    activation: Activation
    table_bits: int = 0
    depth: int = 2048

    @property
    def serial(self) -> bool:
        return SERIAL[self.kind]

    @property
    def entry_bits(self) -> int:
        """Bits of a table's entry: of the sum of K codes of activations, if it is exact."""
        return self.table_bits or (self.k * INT8).bit_length() + 1

    @property
    def sum_bits(self) -> int:
        """Bits of an accumulator of integers."""
        widest = (1 << MOST_PLANES) - 1 if self.serial else INT8
        return (self.depth * INT8 * widest).bit_length() + 1

    def cycles(self, bits: int) -> int:
        """Cycles of a tile for weights of ``bits``."""
        return bits if self.serial else 1

    def operations(self, bits: int) -> float:
        """Multiplications and additions in a cycle, two for each weight, as papers count."""
        return 2 * self.m * self.n * self.k / self.cycles(bits)


def _lookup(m: int, n: int, k: int, activation: str, table_bits: int = 0) -> TensorCore:
    tables = f"t{table_bits}" if table_bits else ""
    name = f"ltc-m{m}n{n}k{k}-{activation}{tables}"
    return TensorCore(name, "lookup", m, n, k, ACTIVATIONS[activation], table_bits)


PRESETS = {
    core.name: core
    for core in (
        _lookup(2, 64, 4, "int8"),
        _lookup(2, 64, 4, "int8", 8),
        _lookup(2, 64, 4, "fp16", 16),
        TensorCore("bit-serial", "bit-serial", 2, 64, 4, ACTIVATIONS["int8"]),
        TensorCore("adder", "adder", 2, 64, 4, ACTIVATIONS["int8"]),
        TensorCore("mac-int8", "multiply", 2, 64, 4, ACTIVATIONS["int8"]),
        TensorCore("mac-fp16", "multiply", 2, 64, 4, ACTIVATIONS["fp16"]),
    )
}


def tensor_core(name: str) -> TensorCore:
    """The preset of this name.

    Raises:
        LadderError: there is none.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = did_you_mean(name, list(PRESETS), {})
    raise LadderError(f"unknown tensor core '{name}'; one of {', '.join(PRESETS)}{near}")
