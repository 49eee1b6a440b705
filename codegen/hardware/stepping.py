"""What the accumulators of a unit hold after a stream, in NumPy, bit for bit."""

from __future__ import annotations

import numpy as np

from ladder.codegen.hardware.float_reference import (
    SINGLE,
    aligned_sum,
    float_terms,
    product_terms,
)
from ladder.codegen.hardware.reference import I64
from ladder.codegen.hardware.streams import ENTRY, Stream
from ladder.hardware.tensor_cores import TensorCore

Terms = tuple[I64, I64, I64]


def accumulated(core: TensorCore, stream: Stream) -> I64:
    """The sums [N, M] after a stream: integers, or float32 bits."""
    total = np.zeros((core.n, core.m), np.int64)
    for x, words, start, plane in zip(
        stream.x, stream.weight, stream.start, stream.plane, strict=True
    ):
        before = np.zeros_like(total) if start else total
        if core.adds_floats:
            total = _float_step(core, _doubled(before) if plane else before, x, words)
        else:
            total = (before << plane) + _term(core, x, words[:, None])
    return total


def _term(core: TensorCore, x: I64, words: I64) -> I64:
    """What a step adds to integer sums [N, M]."""
    if core.kind == "lookup" and core.table_bits:
        sign, entries = _entries(core, x, words)
        return np.where(sign, -entries, entries)
    place = np.arange(core.k)
    if core.kind == "multiply":
        values = (words >> 8 * place & 255).astype(np.uint8).view(np.int8).astype(np.int64)
        return values @ x.T
    bits = words >> place & 1
    if core.kind == "lookup":
        # The sign inverts the index: it stands for the other half of the sums.
        sign = bits[:, -1:]
        bits = np.concatenate([bits[:, :-1] ^ sign, 1 - sign], 1)
    signs = {"lookup": 2 * bits - 1, "adder": 1 - 2 * bits, "bit-serial": bits}[core.kind]
    return signs @ x.T


def _entries(core: TensorCore, x: I64, words: I64) -> tuple[I64, I64]:
    """Sign [N, 1] and entry [N, M] of tables [M, entries] by words [N, 1]."""
    return words >> core.k - 1 & 1, x.T[(words & (1 << core.k - 1) - 1)[:, 0]]


def _float_step(core: TensorCore, before: I64, x: I64, words: I64) -> I64:
    if core.kind == "lookup":
        sign, entries = _entries(core, x, words[:, None])
        negative, exponent, magnitude = (t[..., None] for t in float_terms(entries, ENTRY))
        terms = (negative ^ sign[..., None], exponent, magnitude)
    else:
        width = core.activation.bits
        values = words[:, None, None] >> width * np.arange(core.k) & (1 << width) - 1
        terms = product_terms(x[None], values, core.activation)
    return aligned_sum(*_with(terms, float_terms(before, SINGLE)))


def _with(terms: Terms, sums: Terms) -> Terms:
    first, second, third = (
        np.concatenate([many, one[..., None]], -1) for many, one in zip(terms, sums, strict=True)
    )
    return first, second, third


def _doubled(bits: I64) -> I64:
    """float32 bits of twice the value; zero stays."""
    return np.where(bits >> SINGLE.mantissa & 255 > 0, bits + (1 << SINGLE.mantissa), bits)
