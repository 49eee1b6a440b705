"""What a unit is fed, cycle by cycle, to compute a product.

A stream is one array for each input of the unit, with one row a cycle. The weights of a cycle
belong to the activations of the cycle before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.codegen.hardware.float_reference import float_bits
from ladder.codegen.hardware.reference import I64, U8, half_tables, sign_planes, table_words
from ladder.hardware.tensor_cores import ACTIVATIONS, TensorCore

F64 = npt.NDArray[np.float64]
ENTRY = ACTIVATIONS["fp16"]  # what tables of floats hold


@dataclass(frozen=True)
class Stream:
    """``x`` [cycles, M, ...], ``weight`` [cycles, N], ``start`` and ``plane`` [cycles]."""

    x: I64
    weight: I64
    start: I64
    plane: I64

    @property
    def cycles(self) -> int:
        return len(self.start)


def stream_of(core: TensorCore, x: I64 | F64, codes: U8 | F64, bits: int) -> Stream:
    """A stream of the product of activations ``x`` [M, K] and weights ``codes`` [N, K].

    ``x`` are codes of int8, or floats. Codes of weights are unsigned; of 16 bits they are floats.
    """
    words = weight_words(core, codes, bits)
    planes, steps = len(words), x.shape[1] // core.k
    place = np.arange(planes * steps)
    first = place % steps == 0
    return Stream(
        np.concatenate([operands(core, x).swapaxes(0, 1)] * planes),
        np.concatenate([w.T for w in words]),
        (place == 0).astype(np.int64),
        (first & (place > 0)).astype(np.int64),
    )


def operands(core: TensorCore, x: I64 | F64) -> I64:
    """What a unit reads of ``x`` [M, K] in each step: [M, K / k, activations or entries]."""
    if core.kind == "lookup" and core.table_bits:
        tables = half_tables(x, core.k)
        return float_bits(tables, ENTRY) if core.adds_floats else rounded(tables, core.entry_bits)
    values = float_bits(x, core.activation) if core.adds_floats else x
    return values.astype(np.int64).reshape(len(x), -1, core.k)


def rounded(tables: I64 | F64, bits: int) -> I64:
    """Tables [M, steps, entries] as integers of ``bits``, by one scale for each row of M."""
    most = (1 << bits - 1) - 1
    largest = np.abs(tables).max((1, 2), keepdims=True)
    return np.rint(tables * (most / np.maximum(largest, 1e-30))).astype(np.int64)


def weight_values(codes: U8 | F64, bits: int) -> I64 | F64:
    """The weights [N, K] that a unit multiplies by: -1 and +1, signed integers, or floats."""
    if bits == 16:
        return codes.astype(np.float64)
    signed = codes.astype(np.int64)
    return 2 * signed - 1 if bits == 1 else signed - (1 << bits - 1)


def weight_words(core: TensorCore, codes: U8 | F64, bits: int) -> I64:
    """The weights of ``codes`` [N, K] as a unit reads them: [planes, N, K / k]."""
    groups = codes.shape[0], -1, core.k
    place = np.arange(core.k)
    if core.kind == "lookup":
        return table_words(sign_planes(codes, bits), core.k)
    if core.kind == "multiply":
        width = core.activation.bits
        values = weight_values(codes, bits)
        raw = float_bits(values.astype(np.float64), core.activation) if core.adds_floats else values
        return ((raw & (1 << width) - 1).reshape(groups) << width * place).sum(-1)[None]
    planes = (sign_planes(codes, bits) + 1) // 2
    if core.kind == "adder":
        planes = 1 - planes  # a set bit negates
    return (planes.reshape(bits, *groups) << place).sum(-1)


def sums_of(core: TensorCore, q: I64, codes: U8, bits: int) -> I64:
    """The sums [N, M] of integers in the accumulators, by plain multiplication.

    Tables must not be rounded.
    """
    weights = codes.astype(np.int64)
    if core.kind in ("lookup", "adder"):
        weights = 2 * weights - ((1 << bits) - 1)
    elif core.kind == "multiply":
        weights = weight_values(codes, bits)
    return weights @ q.T
