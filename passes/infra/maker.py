"""New nodes with names, types and shapes, to be put before or after others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class Maker:
    """New nodes before or after a node, with types and shapes."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.graph, self.prefix = graph, prefix
        self.nodes: list[ir.Node] = []

    def make(
        self, op: str, inputs: Sequence[ir.Value], kind: ir.DataType, shape: ir.Shape | None,
        attributes: dict[str, object] | None = None,
    ) -> ir.Value:  # fmt: skip
        name = f"{self.prefix}.{op.lower()}{len(self.nodes)}"
        out = ir.Value(name=name, type=ir.TensorType(kind), shape=shape)
        made = ir.node(op, inputs, attributes, outputs=[out], name=name)
        self.nodes.append(made)
        return out

    def constant(self, part: str, array: np.ndarray) -> ir.Value:
        name = f"{self.prefix}.{part}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        self.graph.register_initializer(value)
        return value

    def cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        return self.make("Cast", [value], kind, value.shape, {"to": kind})
