"""Operators for random graphs whose output shapes ONNX Runtime tells: a row for each.

A row has the opset that an operator exists since, the rank of its first input (0: any), its other
inputs and its attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import helper

from fuzz.random_graphs import Drawn, Shape, proto

More = Callable[[Drawn, Shape], list[str]]


@dataclass(frozen=True)
class Row:
    """One operator; ``more`` makes its other inputs for a first input of some shape."""

    op: str
    since: int = 11
    rank: int = 0
    more: More = lambda graph, shape: []
    attributes: dict[str, Any] = field(default_factory=dict)


def ints(*values: int) -> More:
    return lambda graph, shape: [graph.constant(values, "int64")]


def per_channel(count: int) -> More:
    """``count`` positive vectors with a number for each channel."""
    return lambda graph, shape: [
        graph.constant(np.abs(graph.numbers((shape[1],))) + 0.5) for _ in range(count)
    ]


def resize(*scales: float) -> More:
    return lambda graph, shape: ["", graph.constant(scales)]


def indices(graph: Drawn, shape: Shape) -> list[str]:
    """Numbers along the last axis, also from the end."""
    size = shape[-1]
    found = np.abs(graph.numbers((*shape[:-1], 2)) * 100).astype(np.int64) % (2 * size) - size
    return [graph.constant(found, "int64")]


def slope(graph: Drawn, shape: Shape) -> list[str]:
    return [graph.constant(np.abs(graph.numbers(shape[-1:])))]


def updates(graph: Drawn, shape: Shape) -> list[str]:
    """One row of the first axis, from the end."""
    return [graph.constant([[-1]], "int64"), graph.constant(graph.numbers((1, *shape[1:])))]


def scale(*attributes: Any) -> Row:
    mode, transform = attributes[:2]
    about = {"mode": mode, "coordinate_transformation_mode": transform}
    if len(attributes) > 2:
        about["nearest_mode"] = attributes[2]
    return Row("Resize", 11, 4, resize(1.0, 1.0, 2.0, 1.5), about)


ROWS: tuple[Row, ...] = (
    Row("ThresholdedRelu", 11, attributes={"alpha": 0.5}),
    Row("Shrink", 11, attributes={"lambd": 0.3, "bias": 0.1}),
    Row("PRelu", 11, more=slope),
    Row("Celu", 12, attributes={"alpha": 2.0}),
    Row("Swish", 24),
    Row("LpNormalization", 11, attributes={"p": 1, "axis": 0}),
    Row("CumSum", 11, more=ints(0)),
    Row("CumSum", 11, more=ints(0), attributes={"exclusive": 1, "reverse": 1}),
    Row("Expand", 11, 2, ints(2, 1, 1)),
    Row("DepthToSpace", 11, 4, attributes={"blocksize": 2, "mode": "CRD"}),
    Row("SpaceToDepth", 11, 4, attributes={"blocksize": 2}),
    Row("InstanceNormalization", 11, 4, per_channel(2)),
    Row("BatchNormalization", 15, 4, per_channel(4)),
    Row("LRN", 11, 4, attributes={"size": 3}),
    Row("Trilu", 14, 2),
    Row("GatherElements", 11, more=indices, attributes={"axis": -1}),
    Row("ScatterND", 11, 2, updates),
    Row("Einsum", 12, 2, attributes={"equation": "ij->ji"}),
    Row("ReduceProd", 11, 2, attributes={"axes": [1]}),
    Row("ReduceLogSumExp", 11, 2, attributes={"axes": [1]}),
    Row("Flatten", 11, 4, attributes={"axis": 2}),
    Row("Hardmax", 13),
    Row("GlobalMaxPool", 11, 4),
    Row("AveragePool", 11, 4, attributes={"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    Row("AveragePool", 11, 4, attributes={"kernel_shape": [2, 2], "strides": [2, 2],
                                          "ceil_mode": 1}),
    Row("MaxPool", 11, 4, attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Row("LpPool", 18, 4, attributes={"kernel_shape": [2, 2]}),
    scale("nearest", "asymmetric", "floor"),
    scale("nearest", "half_pixel", "round_prefer_floor"),
    scale("nearest", "half_pixel", "ceil"),
    scale("nearest", "align_corners"),
    scale("linear", "half_pixel"),
    scale("linear", "align_corners"),
    scale("linear", "pytorch_half_pixel"),
)  # fmt: skip


def another(graph: Drawn) -> None:
    """A node of one of these operators."""
    add_row(graph, graph.random.choice(ROWS))


def add_row(graph: Drawn, row: Row) -> None:
    """A node of this operator, if a value has the rank and ONNX Runtime takes it."""
    x = graph.pick(lambda s: len(s) == row.rank if row.rank else bool(s))
    if x is None or row.since > graph.opset:
        return
    before, known = len(graph.nodes), dict(graph.shapes)
    graph.add(row.op, [x, *row.more(graph, graph.shapes[x])], (), **row.attributes)
    name = graph.nodes[before].output[0]
    shape = _shape(graph, x, name)
    if shape is None or not shape or max(shape) > 130:
        del graph.nodes[before:]
        graph.shapes = known
    else:
        graph.shapes[name] = shape


def _shape(graph: Drawn, x: str, name: str) -> Shape | None:
    """The shape of the last node's output; None if ONNX Runtime refuses the node."""
    model = proto(graph, graph.nodes[-1:], [name])
    zeros = np.zeros(graph.shapes[x], np.float32)
    if x not in {value.name for value in model.graph.input}:
        kind = helper.make_tensor_value_info(x, 1, zeros.shape)
        model.graph.input.append(kind)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    try:
        session = ort.InferenceSession(model.SerializeToString())
        found: Shape = session.run(None, {x: zeros})[0].shape
        return found
    except Exception:
        return None
