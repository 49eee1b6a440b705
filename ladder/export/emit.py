"""Constants and nodes that take the place of one low-bit weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.export.weights import Names, Weight, add_initializer

FLOAT = ir.DataType.FLOAT
# The opset from which on ONNX's Cast reads a type; float and float16 have always been there.
SINCE = {
    ir.DataType.BFLOAT16: 13,
    ir.DataType.FLOAT8E4M3FN: 19,
    ir.DataType.FLOAT8E8M0: 24,
}


class Emitter:
    """Writes for one weight: constants into its graph, nodes before its first user.

    Names begin with the site's; a node and its output share one. ``opset`` is the model's.
    """

    def __init__(self, weight: Weight, names: Names, opset: int) -> None:
        self.weight = weight
        self._names = names
        self._opset = opset

    def constant(self, part: str, array: np.ndarray, kind: ir.DataType | None = None) -> ir.Value:
        """An initializer; ``kind`` is its ONNX type where NumPy's does not tell it."""
        return add_initializer(self.weight.graph, self._name(part), array, kind)

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, Any],
        part: str,
        shape: Sequence[int],
        kind: ir.DataType = FLOAT,
    ) -> ir.Value:
        """The output of a new standard node."""
        name = self._name(part)
        made = ir.node(op, inputs, attributes, name=name)
        out = made.outputs[0]
        out.name, out.shape, out.type = name, ir.Shape(shape), ir.TensorType(kind)
        first = self.weight.users[0]
        self.weight.graph.insert_before(first, made)
        return out

    def reshape(self, value: ir.Value, part: str, shape: Sequence[int]) -> ir.Value:
        wanted = self.constant(f"{part}.shape", np.array(shape, np.int64))
        return self.node("Reshape", [value, wanted], {}, part, shape)

    def as_float(self, part: str, array: np.ndarray) -> ir.Value:
        """float32 from a constant in its own type, so that the file stays small.

        ONNX Runtime computes the Cast once, when it loads the file.
        """
        kind = self._readable(ir.DataType.from_numpy(array.dtype))
        value = self.constant(part, array, kind)
        if kind == FLOAT:
            return value
        return self.node("Cast", [value], {"to": int(FLOAT)}, f"{part}.float", array.shape)

    def scale(self, part: str, array: np.ndarray) -> ir.Value:
        """Scales of the weight, laid out as ``array``, as float32 with the tensor's own in them."""
        scale, tensor_scale = self.as_float(part, array), self.weight.tensor_scale_array()
        if tensor_scale is None:
            return scale
        whole = self.constant(f"{part}.tensor", tensor_scale)
        return self.node("Mul", [scale, whole], {}, f"{part}.product", array.shape)

    def _name(self, part: str) -> str:
        return self._names.fresh(f"{self.weight.name}.{part}")

    def _readable(self, kind: ir.DataType) -> ir.DataType:
        """The type, or where the opset lacks it, the next one that holds all its values."""
        wider = (kind, ir.DataType.BFLOAT16, FLOAT)
        return next(k for k in wider if SINCE.get(k, 0) <= self._opset)
