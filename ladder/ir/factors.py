"""Tables of factors: cosines and sines of rotary embeddings, which nobody wants rounded."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

WIDEST, LARGEST = 256, 2.0  # of a row, and of a value: angles may be scaled a little
# Operators that pass rows on, and the inputs of RotaryEmbedding that are cosines and sines.
PASSING = frozenset(
    {
        *("Cast", "Concat", "Expand", "Identity", "Neg", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)
ROTARY = (1, 2)


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
