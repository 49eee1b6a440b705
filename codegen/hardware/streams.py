"""What a unit is fed, cycle by cycle, to compute a product of integers.

A stream is one array for each input of the unit, with one row a cycle. The weights of a cycle
belong to the activations of the cycle before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladder.codegen.hardware.reference import I64, U8, half_tables, sign_planes, table_words
from ladder.hardware.tensor_cores import TensorCore


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


def stream_of(core: TensorCore, q: I64, codes: U8, bits: int) -> Stream:
    """A stream whose sums are those of ``sums_of``.

    ``q`` [M, K] are codes of activations, ``codes`` [N, K] unsigned codes of weights.
    """
    steps = q.shape[1] // core.k
    words = weight_words(core, codes, bits)
    planes = len(words)
    x = q.reshape(core.m, steps, core.k).swapaxes(0, 1)
    if core.table_bits:
        x = half_tables(q, core.k).swapaxes(0, 1)
    place = np.arange(planes * steps)
    first = place % steps == 0
    return Stream(
        np.concatenate([x] * planes),
        np.concatenate([w.T for w in words]),
        (place == 0).astype(np.int64),
        (first & (place > 0)).astype(np.int64),
    )


def weight_words(core: TensorCore, codes: U8, bits: int) -> I64:
    """The weights of ``codes`` [N, K] as a unit reads them: [planes, N, K / k]."""
    groups = codes.shape[0], -1, core.k
    place = np.arange(core.k)
    if core.kind == "lookup":
        return table_words(sign_planes(codes, bits), core.k)
    if core.kind == "multiply":
        signed = codes.astype(np.int64) - (1 << bits - 1) & 255
        return (signed.reshape(groups) << 8 * place).sum(-1)[None]
    planes = (sign_planes(codes, bits) + 1) // 2
    if core.kind == "adder":
        planes = 1 - planes  # a set bit negates
    return (planes.reshape(bits, *groups) << place).sum(-1)


def sums_of(core: TensorCore, q: I64, codes: U8, bits: int) -> I64:
    """The sums [N, M] that a stream leaves in the accumulators, by plain multiplication."""
    weights = codes.astype(np.int64)
    if core.kind in ("lookup", "adder"):
        weights = 2 * weights - ((1 << bits) - 1)
    elif core.kind == "multiply":
        weights = weights - (1 << bits - 1)
    return weights @ q.T
