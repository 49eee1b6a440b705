"""Parts of a graph: some of its nodes, which read the other nodes' values as inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ladder.ir.blocks import find_blocks, reads


def part_of(model: ir.Model, kept: Sequence[ir.Node], values: Mapping[str, np.ndarray]) -> ir.Model:
    """A copy of ``model`` with the nodes ``kept`` of its main graph alone.

    What they read of other nodes becomes an input, with the type and shape of its array in
    ``values``. The outputs are those of ``kept`` that an output or another node reads.
    """
    chosen = {id(node) for node in kept}
    places = [i for i, node in enumerate(model.graph) if id(node) in chosen]
    copy = model.clone()
    nodes = list(copy.graph)
    inside = [nodes[i] for i in places]
    others = [node for node in nodes if node not in set(inside)]
    outputs = _outputs(copy, inside, others)
    for value in _read_of(others, inside):
        _make_input(copy, value, values[value.name or ""])
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(outputs)
    copy.graph.remove(others)
    _drop_unread(copy, inside)
    return copy


def without_repeats(model: ir.Model) -> list[ir.Node]:
    """The nodes of the main graph, of blocks that are alike only those of the first."""
    chain, seen = find_blocks(model), set[object]()
    left_out: set[ir.Node] = set()
    kept = {*chain.side.nodes}
    for block in chain.blocks:
        alike = (block.structure, *(str(value.shape) for value in (*block.inputs, *block.sides)))
        (left_out if alike in seen else kept).update(block.nodes)
        seen.add(alike)
    return [node for node in model.graph if node in kept or node not in left_out]


def _outputs(model: ir.Model, inside: list[ir.Node], others: list[ir.Node]) -> list[ir.Value]:
    wanted = {*model.graph.outputs, *(value for node in others for value in reads(node))}
    return [value for node in inside for value in node.outputs if value in wanted]


def _read_of(others: list[ir.Node], inside: list[ir.Node]) -> list[ir.Value]:
    """The values of ``others`` that ``inside`` reads, in order."""
    made = {value for node in others for value in node.outputs}
    return list(dict.fromkeys(v for node in inside for v in reads(node) if v in made))


def _make_input(model: ir.Model, value: ir.Value, array: np.ndarray) -> None:
    kind = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    made = ir.Value(name=value.name, type=kind, shape=ir.Shape(array.shape))
    value.replace_all_uses_with(made, replace_graph_outputs=True)
    model.graph.inputs.append(made)


def _drop_unread(model: ir.Model, inside: list[ir.Node]) -> None:
    """Inputs and initializers that no node reads any more."""
    used = {value for node in inside for value in reads(node)}
    for name, value in list(model.graph.initializers.items()):
        if value not in used:
            del model.graph.initializers[name]
    for value in [value for value in model.graph.inputs if value not in used]:
        model.graph.inputs.remove(value)
