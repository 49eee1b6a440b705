"""Binding dimensions by name."""

from __future__ import annotations

import onnx_ir as ir
from small_graphs import graph

from ladder.ir.shapes import bind_dims


def test_expressions_of_a_dimension_are_bound_too() -> None:
    model: ir.Model = ir.from_proto(
        graph("g (float[tokens, 4] x) => (float[m] y) { y = Identity(x) }", {})
    )
    (y,) = model.graph.outputs
    y.shape = ir.Shape([ir.SymbolicDim("2*tokens"), ir.SymbolicDim("no expression: 1")])
    bind_dims(model, {"tokens": 3})
    assert model.graph.inputs[0].shape == [3, 4]
    assert y.shape == [6, "no expression: 1"]
