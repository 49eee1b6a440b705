"""Random ONNX graphs: operators of a list, small shapes, opsets 11 to 25.

Weights are 0 or plus or minus one power of two, which every integer type holds exactly: a quantized
graph computes the same as the original, to float error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import helper

OPSETS = tuple(range(11, 26))
STEP = 0.125  # the magnitude of weights
SIZES = (1, 2, 3, 5, 8, 16, 24, 32, 48, 65)
Shape = tuple[int, ...]


@dataclass
class Drawn:
    """A graph as it grows: nodes, constants, and the values that later nodes may read."""

    random: Random
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)

    def numbers(self, shape: Shape) -> np.ndarray:
        """Normal numbers, seeded by the graph's."""
        return np.random.default_rng(self.random.getrandbits(32)).standard_normal(shape)

    def constant(self, array: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def weight(self, *shape: int) -> str:
        values = np.random.default_rng(self.random.getrandbits(32)).integers(-1, 2, shape)
        return self.constant(values * STEP)

    def add(self, op: str, inputs: list[str], shape: Shape, outputs: int = 1, **attributes: Any
            ) -> str:  # fmt: skip
        """A node; all of its outputs have one shape. Returns the first."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        self.shapes |= dict.fromkeys(names, shape)
        return names[0]

    def pick(self, accepts: Callable[[Shape], bool] = bool) -> str | None:
        """A value whose shape is accepted, more often a late one."""
        found = [name for name, shape in self.shapes.items() if accepts(shape)]
        return self.random.choice(found[-4:] if self.random.random() < 0.7 else found) if (
            found) else None  # fmt: skip

    def axes(self, op_since: int, axes: list[int]) -> tuple[list[str], dict[str, Any]]:
        """Axes as an attribute, or as an input since an opset."""
        if self.opset >= op_since:
            return [self.constant(axes, "int64")], {}
        return [], {"axes": axes}


Kind = Callable[[Drawn], None]


def draw(random: Random, size: int, kinds: Sequence[Kind]) -> Drawn:
    """A graph of about ``size`` nodes, made by some of ``kinds``."""
    graph = Drawn(random, random.choice(OPSETS))
    shape = random.choice([(2, 32), (3, 16), (1, 48), (2, 3, 24), (5, 65), (1, 2, 8, 8), (4,)])
    graph.inputs["x"] = graph.numbers(shape).astype(np.float32)
    graph.shapes["x"] = shape
    start: int | None = random.randrange(size)
    while len(graph.nodes) < size:
        random.choice(kinds)(graph)
        if start is not None and len(graph.nodes) >= start:
            large_matmul(graph)
            start = None
    return graph


def proto(graph: Drawn, nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    """The model of some of a graph's nodes."""
    read = {name for node in nodes for name in node.input}
    given = {name: array for name, array in graph.inputs.items() if name in read}
    made = helper.make_graph(
        nodes,
        "g",
        [_info(name, array.shape, str(array.dtype)) for name, array in given.items()],
        [_info(name, graph.shapes[name], "float32") for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()
         if name in read],
    )  # fmt: skip
    imports = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(made, opset_imports=imports, ir_version=10)


def _info(name: str, shape: Shape, dtype: str) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


# Each of these adds a few nodes, or none where no value has a shape for them.

UNARY = {
    "Relu": 1, "Sigmoid": 1, "Tanh": 1, "Erf": 1, "Neg": 1, "Abs": 1, "LeakyRelu": 1, "Elu": 1,
    "HardSigmoid": 1, "Softplus": 1, "Softsign": 1, "Identity": 1, "Sin": 1, "Cos": 1, "Atan": 1,
    "Selu": 1, "HardSwish": 14, "Gelu": 20, "Mish": 18,
}  # fmt: skip


def unary(graph: Drawn) -> None:
    known = [op for op, since in UNARY.items() if since <= graph.opset]
    if (x := graph.pick()) is not None:
        graph.add(graph.random.choice(known), [x], graph.shapes[x])


def root(graph: Drawn) -> None:
    """The square root, or a quotient, of what is at least one."""
    if (x := graph.pick()) is not None:
        shape = graph.shapes[x]
        positive = graph.add("Abs", [x], shape)
        above = graph.add("Add", [positive, graph.constant(1.0)], shape)
        if graph.random.random() < 0.5:
            graph.add("Sqrt", [above], shape)
        else:
            graph.add("Div", [x, above], shape)


def binary(graph: Drawn) -> None:
    """With another value of the same shape, or with a constant that is broadcast."""
    op = graph.random.choice(["Add", "Sub", "Mul", "Min", "Max"])
    if (x := graph.pick()) is None:
        return
    shape = graph.shapes[x]
    other = graph.pick(lambda s: s == shape)
    if other is None or graph.random.random() < 0.5:
        narrow = graph.random.choice([shape, shape[-1:], (1, *shape[1:]), ()])
        other = graph.constant(graph.numbers(narrow))
    pair = [x, other] if graph.random.random() < 0.5 else [other, x]
    graph.add(op, pair, shape)


def matmul(graph: Drawn) -> None:
    """With a constant weight: a site."""
    if (x := graph.pick(lambda s: len(s) > 1 and s[-1] > 1)) is not None:
        k, n = graph.shapes[x][-1], graph.random.choice(SIZES)
        y = graph.add("MatMul", [x, graph.weight(k, n)], (*graph.shapes[x][:-1], n))
        if graph.random.random() < 0.5:
            graph.add("Add", [y, graph.constant(graph.numbers((n,)))], graph.shapes[y])


def large_matmul(graph: Drawn) -> None:
    """One that is worth quantizing."""
    if (x := graph.pick(lambda s: len(s) > 1 and s[-1] >= 16)) is not None:
        k, n = graph.shapes[x][-1], graph.random.choice([24, 32, 64, 96])
        graph.add("MatMul", [x, graph.weight(k, n)], (*graph.shapes[x][:-1], n))


def gemm(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: len(s) == 2)) is not None:
        (m, k), n = graph.shapes[x], graph.random.choice(SIZES)
        turned = graph.random.random() < 0.5
        bias = [graph.constant(graph.numbers(graph.random.choice([(n,), (1, n), (m, n), ()])))]
        graph.add(
            "Gemm",
            [x, graph.weight(n, k) if turned else graph.weight(k, n),
             *(bias if graph.random.random() < 0.7 else [])],
            (m, n), transB=int(turned), alpha=graph.random.choice([1.0, 0.5]),
            beta=graph.random.choice([1.0, 2.0]),
        )  # fmt: skip


def weight_first(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: len(s) == 2)) is not None:
        n = graph.random.choice(SIZES)
        graph.add("MatMul", [graph.weight(n, graph.shapes[x][0]), x], (n, graph.shapes[x][1]))


def two_values(graph: Drawn) -> None:
    """A product of two values."""
    if (x := graph.pick(lambda s: len(s) > 1)) is not None:
        shape = graph.shapes[x]
        turned = (*shape[:-2], shape[-1], shape[-2])
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        other = graph.add("Transpose", [x], turned, perm=order)
        graph.add("MatMul", [x, other], (*shape[:-1], shape[-2]))


def embedding(graph: Drawn) -> None:
    """Rows of a weight, by numbers from the end or from the start."""
    rows, width = 12, graph.random.choice(SIZES)
    shape = graph.random.choice([(2,), (1, 3), (2, 2)])
    name = f"i{len(graph.inputs)}"
    kind = graph.random.choice(["int64", "int32"])
    graph.inputs[name] = np.abs(graph.numbers(shape) * 100).astype(kind) % rows
    graph.add("Gather", [graph.weight(rows, width), name], (*shape, width))


def convolution(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: len(s) == 4 and min(s[2:]) >= 3)) is not None:
        batch, channels, *space = graph.shapes[x]
        out, kernel, pad = graph.random.choice([1, 4, 6]), graph.random.choice([1, 3]), 1
        stride = graph.random.choice([1, 2])
        sizes = [(s + 2 * pad - kernel) // stride + 1 for s in space]
        bias = [graph.constant(graph.numbers((out,)))] if graph.random.random() < 0.5 else []
        graph.add(
            "Conv", [x, graph.weight(out, channels, kernel, kernel), *bias],
            (batch, out, *sizes), pads=[pad] * 4, strides=[stride] * 2,
        )  # fmt: skip


def pooling(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: len(s) == 4 and min(s[2:]) >= 2)) is not None:
        batch, channels, *space = graph.shapes[x]
        op = graph.random.choice(["MaxPool", "AveragePool", "GlobalAveragePool"])
        if op.startswith("Global"):
            graph.add(op, [x], (batch, channels, 1, 1))
        else:
            shape = (batch, channels, *(s - 1 for s in space))
            graph.add(op, [x], shape, kernel_shape=[2, 2])


def reshape(graph: Drawn) -> None:
    if (x := graph.pick()) is not None:
        shape, size = graph.shapes[x], prod(graph.shapes[x])
        parts = [d for d in (2, 3, 4, 8, 16) if size % d == 0] or [1]
        first = graph.random.choice(parts)
        new = graph.random.choice([(first, size // first), (size,), (1, *shape), (1, 1, *shape)])
        given = list(new)
        if graph.random.random() < 0.4:
            given[graph.random.randrange(len(given))] = -1
        graph.add("Reshape", [x, graph.constant(given, "int64")], new[-4:] if len(new) < 5 else new)


def transpose(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: len(s) > 1)) is not None:
        order = graph.random.sample(range(len(graph.shapes[x])), len(graph.shapes[x]))
        graph.add("Transpose", [x], tuple(graph.shapes[x][i] for i in order), perm=order)


def squeeze(graph: Drawn) -> None:
    if (x := graph.pick()) is not None:
        shape = graph.shapes[x]
        ones = [i for i, d in enumerate(shape) if d == 1]
        if ones and len(shape) > 1 and graph.random.random() < 0.6:
            axis = graph.random.choice(ones)
            more, attributes = graph.axes(13, [axis])
            graph.add("Squeeze", [x, *more], shape[:axis] + shape[axis + 1 :], **attributes)
        elif len(shape) < 4:
            axis = graph.random.randint(0, len(shape))
            more, attributes = graph.axes(13, [axis])
            graph.add("Unsqueeze", [x, *more], (*shape[:axis], 1, *shape[axis:]), **attributes)


def reduce(graph: Drawn) -> None:
    if (x := graph.pick()) is not None:
        op = graph.random.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceMin"])
        shape = graph.shapes[x]
        axis, keep = graph.random.randrange(len(shape)), graph.random.random() < 0.7
        if len(shape) == 1:
            keep = True
        named = axis - len(shape) if graph.random.random() < 0.5 else axis
        more, attributes = graph.axes(13 if op == "ReduceSum" else 18, [named])
        new = tuple(1 if i == axis else d for i, d in enumerate(shape) if keep or i != axis)
        graph.add(op, [x, *more], new, keepdims=int(keep), **attributes)


def softmax(graph: Drawn) -> None:
    """Its meaning, and its default axis, changed with opset 13."""
    if (x := graph.pick()) is not None:
        op = graph.random.choice(["Softmax", "LogSoftmax"])
        axis = graph.random.randrange(len(graph.shapes[x]))
        attributes = {} if graph.random.random() < 0.3 and len(graph.shapes[x]) > 1 else {
            "axis": axis}  # fmt: skip
        graph.add(op, [x], graph.shapes[x], **attributes)


def norm(graph: Drawn) -> None:
    if (x := graph.pick(lambda s: s[-1] > 1)) is not None:
        shape = graph.shapes[x]
        scale = graph.constant(graph.numbers(shape[-1:]))
        if graph.opset >= 23 and graph.random.random() < 0.5:
            graph.add("RMSNormalization", [x, scale], shape, axis=-1)
        elif graph.opset >= 17:
            bias = graph.constant(graph.numbers(shape[-1:]))
            graph.add("LayerNormalization", [x, scale, bias], shape, axis=-1, epsilon=0.01)


def pieces(graph: Drawn) -> None:
    """Slice, Split, Concat, Gather, Tile, Pad."""
    if (x := graph.pick()) is not None:
        graph.random.choice([_slice, _split, _concat, _gather, _tile, _pad])(graph, x)


def _slice(graph: Drawn, x: str) -> None:
    shape, i = graph.shapes[x], graph.random.randrange(len(graph.shapes[x]))
    start, stop = sorted(graph.random.sample(range(shape[i] + 1), 2))
    step = graph.random.choice([1, 1, 2])
    named = start - shape[i] if graph.random.random() < 0.4 else start
    given = [graph.constant([v], "int64") for v in (named, stop, i - len(shape), step)]
    new = (*shape[:i], len(range(start, stop, step)), *shape[i + 1 :])
    graph.add("Slice", [x, *given], new)


def _split(graph: Drawn, x: str) -> None:
    shape = graph.shapes[x]
    even = [i for i, d in enumerate(shape) if d % 2 == 0]
    if even:
        i = graph.random.choice(even)
        half = (*shape[:i], shape[i] // 2, *shape[i + 1 :])
        attributes = {"num_outputs": 2} if graph.opset >= 18 else {}
        graph.add("Split", [x], half, outputs=2, axis=i, **attributes)


def _concat(graph: Drawn, x: str) -> None:
    shape, i = graph.shapes[x], graph.random.randrange(len(graph.shapes[x]))
    other = graph.pick(lambda s: s == shape) or x
    new = (*shape[:i], 2 * shape[i], *shape[i + 1 :])
    if new[i] <= 130:
        graph.add("Concat", [x, other], new, axis=i)


def _gather(graph: Drawn, x: str) -> None:
    """Constant numbers, also from the end."""
    shape, i = graph.shapes[x], graph.random.randrange(len(graph.shapes[x]))
    found = [graph.random.randrange(-shape[i], shape[i]) for _ in range(3)]
    new = (*shape[:i], 3, *shape[i + 1 :])
    graph.add("Gather", [x, graph.constant(found, "int64")], new, axis=i)


def _tile(graph: Drawn, x: str) -> None:
    shape = graph.shapes[x]
    times = [graph.random.choice([1, 2]) if d < 40 else 1 for d in shape]
    new = tuple(d * t for d, t in zip(shape, times, strict=True))
    graph.add("Tile", [x, graph.constant(times, "int64")], new)


def _pad(graph: Drawn, x: str) -> None:
    shape = graph.shapes[x]
    before, after = ([graph.random.choice([0, 0, 1]) for _ in shape] for _ in range(2))
    new = tuple(d + b + a for d, b, a in zip(shape, before, after, strict=True))
    pads = graph.constant([*before, *after], "int64")
    graph.add("Pad", [x, pads, graph.constant(0.5)], new)


def choose(graph: Drawn) -> None:
    """By a comparison with a constant; the condition is one of the input's, which has no error."""
    shape = graph.shapes["x"]
    if (y := graph.pick(lambda s: s == shape)) is not None:
        name = f"m{len(graph.nodes)}"
        limit = graph.constant(0.25)
        graph.nodes.append(helper.make_node("Greater", ["x", limit], [name], name=name))
        graph.add("Where", [name, y, graph.constant(-1.0)], shape)


def clip(graph: Drawn) -> None:
    if (x := graph.pick()) is not None:
        limits = [graph.constant(-0.5), graph.constant(0.75)]
        graph.add("Clip", [x, *limits], graph.shapes[x])


KINDS: tuple[Kind, ...] = (
    *(matmul, matmul, matmul, gemm, gemm, weight_first, two_values, embedding, convolution),
    *(unary, unary, unary, root, binary, binary, pooling, reshape, transpose, squeeze, reduce),
    *(softmax, norm, pieces, pieces, choose, clip),
)
