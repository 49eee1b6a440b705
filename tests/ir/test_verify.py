"""Invariants between passes: each broken one is named with its node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, quantized, random

from ladder.ir.verify import verify

TWO = """g (float[M, 64] x, bool c) => (float[M, 8] y) {
    a = MatMul(x, w)
    y = If(c) <then_branch = yes () => (float[M, 8] p) { p = Relu(a) },
               else_branch = no () => (float[M, 8] n) { n = Neg(a) }>
}"""


@pytest.fixture
def model() -> ir.Model:
    made = quantized(graph(TWO, {"w": random(64, 8)}), "int4:g32")
    assert verify(made) is None
    return made


def product(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "LowBitMatMul")


def put(model: ir.Model, place: int, array: np.ndarray) -> None:
    """Another weight operand for the product."""
    tensor = ir.Tensor(array, name="new")
    kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    value = ir.Value(name="new", type=kind, shape=shape, const_value=tensor)
    model.graph.register_initializer(value)
    product(model).replace_input_with(place, value)


def test_undefined_value(model: ir.Model) -> None:
    product(model).replace_input_with(0, ir.Value(name="ghost"))
    assert verify(model) == "node a reads %ghost, which nothing before it defines"


def test_order(model: ir.Model) -> None:
    first = product(model)
    model.graph.remove(first)
    model.graph.append(first)
    assert verify(model) == "node p reads %a, which nothing before it defines"


def test_subgraph(model: ir.Model) -> None:
    branch = next(n for n in model.graph if n.op_type == "If").attributes["else_branch"].as_graph()
    branch.node(0).replace_input_with(0, ir.Value(name="ghost"))
    assert verify(model) == "node n reads %ghost, which nothing before it defines"


def test_graph_output(model: ir.Model) -> None:
    model.graph.outputs.append(ir.Value(name="z"))
    assert verify(model) == "graph output %z is never computed"


def test_unknown_operator(model: ir.Model) -> None:
    product(model).op_type = "Teleport"
    assert verify(model) == "node a: the dialect has no operator Teleport"


def test_scale_shape(model: ir.Model) -> None:
    put(model, 2, np.ones((8, 1), np.float32))
    wanted = "node a: scale of int4:g32 for [8, 64] is (8, 2), not [8,1]"
    assert verify(model) == wanted


def test_codes_of_another_type(model: ir.Model) -> None:
    put(model, 1, np.zeros((8, 64), np.int8))
    assert verify(model) == "node a: codes of int4:g32 are INT4, not INT8"


def test_codes_without_a_shape(model: ir.Model) -> None:
    codes = product(model).inputs[1]
    assert codes is not None
    codes.shape = None
    assert verify(model) == "node a: codes and scales need static shapes"


def test_function_not_installed(model: ir.Model) -> None:
    model.functions.clear()
    assert verify(model) == "node a: its function LowBitMatMul:int4:g32 is not installed"


def test_number_of_outputs(model: ir.Model) -> None:
    node = product(model)
    node.op_type, node.overload = "QuantizeActivation", "k32"
    assert verify(model) == "node a: QuantizeActivation has 3 outputs, not 1"
