"""Tables of cosines and sines, of rotary and of added positions, which nobody wants rounded."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

SINUSOID_ROWS, SINUSOID_ERROR = 64, 2e-3  # rows that are looked at; of the largest value
FASTEST = 1.9  # twice the cosine of the fastest angle, at most: no slow line passes for a sine
WIDEST, LARGEST = 256, 2.0  # of a row, and of a value: angles may be scaled a little
# Operators that pass rows on, and the inputs of RotaryEmbedding that are cosines and sines.
PASSING = frozenset(
    {
        *("Cast", "Concat", "Expand", "Identity", "Neg", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)
ROTARY = (1, 2)


def is_sinusoid(table: ir.TensorProtocol) -> bool:
    """Whether every column is a sine of the row's number: sin(i+1) + sin(i-1) = 2 cos(1) sin(i).

    Rows of zeros, which stand for padding, are left out.
    """
    rows = table.numpy()[:SINUSOID_ROWS]
    before, row, after = rows[:-2], rows[1:-1], rows[2:]
    whole = np.logical_and.reduce([part.any(axis=1) for part in (before, row, after)])
    before, row, after = (part[whole].astype(np.float64) for part in (before, row, after))
    size = (row * row).sum(axis=0)
    if len(row) < SINUSOID_ROWS // 4 or not size.any():
        return False
    angle = (row * (before + after)).sum(axis=0) / np.where(size, size, 1)
    apart = np.abs(before + after - angle * row).max()
    return bool(angle[size > 0].min() <= FASTEST and apart <= SINUSOID_ERROR * np.abs(row).max())


def holds_factors(node: ir.Node, table: ir.TensorProtocol) -> bool:
    """Whether the rows that a Gather takes of a table only multiply computed values."""
    if int(table.shape[-1]) > WIDEST or not _all_factors(node.outputs[0]):  # type: ignore[arg-type]
        return False
    return bool(np.abs(table.numpy()).max(initial=0) <= LARGEST)


def _all_factors(rows: ir.Value) -> bool:
    """Whether every reader multiplies them, directly or after what passes the rows on."""
    waiting, seen = [rows], set[ir.Value]()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.is_graph_output() or not value.uses():
            return False
        for reader, place in value.uses():
            if reader.op_type in PASSING:
                waiting += reader.outputs
            elif not _multiplies(reader, place):
                return False
    return True


def _multiplies(reader: ir.Node, place: int) -> bool:
    if reader.op_type == "RotaryEmbedding":
        return place in ROTARY
    other = reader.inputs[1 - place] if reader.op_type == "Mul" else None
    return other is not None and not _is_constant(other)


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return producer.op_type == "Constant" if producer is not None else value.is_initializer()
