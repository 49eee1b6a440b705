"""Names of values and nodes: each is used once in a model, whatever the model calls its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

Named = ir.Value | ir.Node


class Names:
    """Names that no value and no node of the model, subgraphs included, has yet."""

    def __init__(self, model: ir.Model) -> None:
        self._taken = {item.name for item in named(model) if item.name}

    def fresh(self, wanted: str) -> str:
        """``wanted``, or with a number where that is taken."""
        name = numbered(wanted, self._taken)
        self._taken.add(name)
        return name


def numbered(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or ``wanted#2`` and so on where that is taken."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}#{count}"
    return name


def named(model: ir.Model) -> Iterator[Named]:
    """Every value and node of the main graph and its subgraphs."""
    for graph in [model.graph, *model.graph.subgraphs()]:
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield node
            yield from node.outputs


def label(node: ir.Node) -> str:
    """A node's name for messages; where it has none, that of its first output."""
    return node.name or next((value.name for value in node.outputs if value.name), "")


def make_unique(model: ir.Model, old: Collection[Named]) -> None:
    """Rename what is not among ``old`` where another value, or another node, has its name."""
    now = list(dict.fromkeys(named(model)))
    values, nodes = set[str](), set[str]()
    for item in sorted(now, key=lambda item: item not in old):
        taken = nodes if isinstance(item, ir.Node) else values
        if item.name and item not in old and item.name in taken:
            item.name = numbered(item.name, taken)
        if item.name:
            taken.add(item.name)


def add_initializer(
    graph: ir.Graph, name: str, array: np.ndarray, kind: ir.DataType | None = None
) -> ir.Value:
    """Register a constant, under another name where the graph has an initializer of this one.

    ``kind`` is its ONNX type if NumPy has no such type.
    """
    name, kind = numbered(name, graph.initializers), kind or ir.DataType.from_numpy(array.dtype)
    tensor = ir.Tensor(array.astype(kind.numpy(), copy=False), dtype=kind, name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(kind), shape=ir.Shape(array.shape), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def described(node: ir.Node) -> str:
    """An operator for messages."""
    return f"{node.op_type} '{label(node)}'"
