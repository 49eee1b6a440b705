"""Writes the constants and nodes that replace a low-bit weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.export.weights import Weight
from ladder.ir.names import Names, add_initializer

FLOAT = ir.DataType.FLOAT
# The first opset whose Cast reads a type; every opset has float and float16.
SINCE = {
    ir.DataType.BFLOAT16: 13,
    ir.DataType.FLOAT8E4M3FN: 19,
    ir.DataType.FLOAT8E8M0: 24,
}


class Emitter:
    """Writes for one weight: constants to its graph, nodes before its first user.

    Names begin with the name of the site; a node and its output have the same name. ``opset`` is
    that of the model. Floats are of type ``kind``; ``unsigned`` asks for codes without a sign.
    """

    def __init__(
        self,
        weight: Weight,
        names: Names,
        opset: int,
        kind: ir.DataType = FLOAT,
        unsigned: bool = False,
    ) -> None:
        self.weight, self.kind, self.unsigned = weight, kind, unsigned
        self._names = names
        self._opset = opset

    def constant(self, part: str, array: np.ndarray, kind: ir.DataType | None = None) -> ir.Value:
        """An initializer; ``kind`` is its ONNX type if NumPy has no such type."""
        return add_initializer(self.weight.graph, self._name(part), array, kind)

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, Any],
        part: str,
        shape: Sequence[int | ir.SymbolicDim] | None,
        kind: ir.DataType | None = None,
    ) -> ir.Value:
        """Add a standard node; return its output. ``shape`` is None where it is not known."""
        (out,) = self.nodes(op, inputs, (part,), attributes)
        out.shape = None if shape is None else ir.Shape(shape)
        out.type = ir.TensorType(kind or self.kind)
        return out

    def nodes(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        parts: Sequence[str],
        attributes: dict[str, Any] | None = None,
    ) -> Sequence[ir.Value]:
        """Add a standard node with an output for each of ``parts``, of no known type or shape."""
        names = [self._name(part) for part in parts]
        made = ir.node(op, inputs, attributes, num_outputs=len(parts), name=names[0])
        for out, name in zip(made.outputs, names, strict=True):
            out.name = name
        self.weight.graph.insert_before(self.weight.users[0], made)
        return made.outputs

    def reshape(self, value: ir.Value, part: str, shape: Sequence[int]) -> ir.Value:
        wanted = self.constant(f"{part}.shape", np.array(shape, np.int64))
        return self.node("Reshape", [value, wanted], {}, part, shape)

    def as_float(self, part: str, array: np.ndarray) -> ir.Value:
        """Cast a constant to the emitter's type in the graph, so that the file stays small.

        ONNX Runtime computes the Cast once, when it loads the file.
        """
        kind = self._readable(ir.DataType.from_numpy(array.dtype))
        value = self.constant(part, array, kind)
        if kind == self.kind:
            return value
        return self.node("Cast", [value], {"to": int(self.kind)}, f"{part}.float", array.shape)

    def float_constant(self, part: str, array: np.ndarray) -> ir.Value:
        """An initializer of the emitter's type."""
        return self.constant(part, array.astype(self.kind.numpy()), self.kind)

    def scale(self, part: str, array: np.ndarray) -> ir.Value:
        """The weight's scales, in the layout of ``array``, times the tensor scale."""
        scale, tensor_scale = self.as_float(part, array), self.weight.tensor_scale_array()
        if tensor_scale is None:
            return scale
        whole = self.float_constant(f"{part}.tensor", tensor_scale)
        return self.node("Mul", [scale, whole], {}, f"{part}.product", array.shape)

    def _name(self, part: str) -> str:
        return self._names.fresh(f"{self.weight.name}.{part}")

    def _readable(self, kind: ir.DataType) -> ir.DataType:
        """The type, or if the opset lacks it, a type that holds all its values."""
        wider = (kind, ir.DataType.BFLOAT16, FLOAT)
        return next(k for k in wider if SINCE.get(k, 0) <= self._opset)
