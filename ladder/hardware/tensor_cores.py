"""Tensor cores that look up instead of multiplying, and the units they are compared with.

A unit computes a tile each cycle: M rows of activations times N columns of weights, K deep. Source:
LUT Tensor Core, ISCA 2025 (arXiv 2408.06003).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from ladder.errors import LadderError
from ladder.support.suggest import did_you_mean

Kind = Literal["lookup", "bit-serial", "adder", "multiply"]
# By kind: the unit reads weights bit by bit, one plane of a weight in each cycle.
SERIAL: dict[Kind, bool] = {"lookup": True, "bit-serial": True, "adder": True, "multiply": False}
INT8 = 127  # the largest code of an activation, and of an 8-bit weight
FLOAT_TABLE = 16  # bits of an entry of a table of floats
MOST_PLANES = 4  # bits of the widest weight that is read bit by bit


@dataclass(frozen=True)
class Activation:
    """A type of activations: an integer, or a float of ``exponent`` and ``mantissa`` bits."""

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
    def adds_floats(self) -> bool:
        """Whether it adds floats; with rounded tables of floats it adds integers."""
        return self.activation.is_float and self.table_bits in (0, FLOAT_TABLE)

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

    def scaled(self, m: int, n: int) -> TensorCore:
        """The same unit with other numbers of rows and columns."""
        return replace(self, m=m, n=n)


KINDS: dict[str, tuple[Kind, str]] = {  # by the names of units: kind, type of activations
    "ltc": ("lookup", ""),
    "bit-serial": ("bit-serial", "int8"),
    "adder": ("adder", "int8"),
    "mac-int8": ("multiply", "int8"),
    "mac-fp16": ("multiply", "fp16"),
}
NAME = re.compile(
    rf"(?P<kind>{'|'.join(KINDS)})(-m(?P<m>[1-9]\d*)n(?P<n>[1-9]\d*)k(?P<k>[1-9]\d*))?"
    r"(-(w(?P<bits>[124])a)?(?P<activation>(?<=a)8|(?<=a)16|int8|fp16|fp8)(t(?P<table>\d+))?)?"
)
BY_WIDTH = {"8": "int8", "16": "fp16"}  # the activations of w1a8 and w1a16
PRESETS = (
    "ltc-m2n64k4-int8",
    "ltc-m2n64k4-int8t8",
    "ltc-m2n64k4-fp16",
    "ltc-m2n64k4-fp16t8",
    "bit-serial",
    "adder",
    "mac-int8",
    "mac-fp16",
)
PERIOD = 16.0  # ns of a clock at which every unit meets its timing in 180 nm
WIDEST_K = 8  # tables double with each K


def tensor_core(name: str) -> tuple[TensorCore, int | None]:
    """The unit of this name, and the bits of weights if the name has them.

    ``ltc-m2n64k4-int8`` is a look-up unit of M 2, N 64, K 4; ``t8`` at its end rounds tables to 8
    bits; ``-w1a8`` and ``-w1a16`` in place of the type also say the bits of weights. The other
    units are ``mac-int8``, ``mac-fp16``, ``bit-serial``, ``adder``, with or without ``-m2n64k4``.

    Raises:
        LadderError: there is none.
    """
    found = NAME.fullmatch(name)
    if found is None or (found["kind"] == "ltc") != bool(found["activation"]):
        near = did_you_mean(name, list(PRESETS), {})
        raise LadderError(f"unknown tensor core '{name}'; one of {', '.join(PRESETS)}{near}")
    kind, activation = KINDS[found["kind"]]
    activation = activation or BY_WIDTH.get(found["activation"], found["activation"])
    m, n, k = (int(found[part] or usual) for part, usual in (("m", 2), ("n", 64), ("k", 4)))
    core = TensorCore(name, kind, m, n, k, ACTIVATIONS[activation], _table_bits(found, activation))
    if kind in ("lookup", "bit-serial") and k > WIDEST_K:
        raise LadderError(f"{name}: K is at most {WIDEST_K}, because a table has 2^(K-1) entries")
    return core, int(found["bits"]) if found["bits"] else None


def _table_bits(found: re.Match[str], activation: str) -> int:
    usual = FLOAT_TABLE if found["kind"] == "ltc" and ACTIVATIONS[activation].is_float else 0
    return int(found["table"] or usual)
