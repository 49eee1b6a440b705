"""How many weights a GGUF or ONNX file has in each type, and how many bytes its constants take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import onnx_ir as ir

from ladder.frontend.gguf.files import read_files
from ladder.frontend.onnx_file import load_onnx
from ladder.ir.site import constant_of

MATRIX = 2  # a tensor of fewer dimensions is no weight that may change type
# Operators whose codes are packed into bytes: the input with the codes, before their scales.
PACKED = {"MatMulNBits": 1, "MatMulBnb4": 1, "GatherBlockQuantized": 0}
BITS = 4  # of a code where an operator does not say it
# The first input of an operator that is a scale or a zero point of its codes.
SCALES = {"DequantizeLinear": 1, "MatMulNBits": 2, "MatMulBnb4": 2, "GatherBlockQuantized": 2}
ELEMENTWISE = ("Mul", "Div", "Add", "Sub")
INDICES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
SINGLE = "float32"


@dataclass
class Counts:
    """Weights by type, and the bytes of the file's constants."""

    types: dict[str, int] = field(default_factory=dict)
    constant_bytes: int = 0

    @property
    def weights(self) -> int:
        return sum(self.types.values())

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of all constants for each weight; None for a file without weights."""
        return 8 * self.constant_bytes / self.weights if self.weights else None

    def add(self, type: str, count: int) -> None:
        self.types[type] = self.types.get(type, 0) + count


def gguf_counts(path: Path) -> Counts:
    """The tensors of all parts of a GGUF checkpoint."""
    counts = Counts()
    for tensor in read_files(path).tensors.values():
        counts.constant_bytes += tensor.size
        if len(tensor.shape) >= MATRIX:
            counts.add(tensor.type, prod(tensor.shape))
    return counts


def onnx_counts(path: Path) -> Counts:
    """The constants of an ONNX file: codes and float weights; scales are no weights."""
    model = load_onnx(path).model
    counts, seen = Counts(), set[int]()
    scales = {id(value) for node in model.graph.all_nodes() for value in _scales(node)}
    for node in model.graph.all_nodes():
        for at, value in enumerate(node.inputs):
            tensor = constant_of(value)
            if tensor is None or id(value) in seen:
                continue
            seen.add(id(value))
            counts.constant_bytes += tensor.nbytes
            if id(value) not in scales and len(tensor.shape) >= MATRIX:
                _count(counts, node, at, tensor)
    return counts


def _scales(node: ir.Node) -> Iterator[ir.Value]:
    """What a node scales or shifts values by: constants that are no weights."""
    first = 0 if node.op_type in ELEMENTWISE else SCALES.get(node.op_type)
    if first is not None:
        yield from (value for value in node.inputs[first:] if value is not None)


def _count(counts: Counts, node: ir.Node, at: int, tensor: ir.TensorProtocol) -> None:
    size, name = int(tensor.size), tensor.dtype.name.lower()
    if PACKED.get(node.op_type) == at:
        bits = node.attributes.get_int("bits", BITS)
        codes = size * 8 // bits if name == "uint8" else size
        counts.add(f"int{bits}", _stated(node) or codes)
    elif tensor.dtype not in INDICES:
        counts.add(SINGLE if name == "float" else name, size)


def _stated(node: ir.Node) -> int:
    """N x K of a product, as its attributes say it; 0 where they do not."""
    return node.attributes.get_int("N", 0) * node.attributes.get_int("K", 0)
