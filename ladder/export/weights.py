"""Finds the low-bit weights of a model and the nodes that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect
from ladder.ir.dtype import DType
from ladder.ir.site import BIAS_KEY, KIND_KEY, OP_KEY, SITE_KEY
from ladder.ir.unused import drop_unused

# The dialect's operators that read a weight, and the operators they stand for by default.
HIGH_RUNG = {"LowBitMatMul": "MatMul", "LowBitGather": "Gather", "LowBitConv": "Conv"}


@dataclass
class Weight:
    """Codes [N, K] with their scales, in one graph, and their users in order."""

    dtype: DType
    graph: ir.Graph
    codes: ir.Value
    scale: ir.Value
    zero: ir.Value | None
    tensor_scale: ir.Value | None
    users: list[ir.Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        return (self.codes.name or "weight").removesuffix(".codes")

    @property
    def kind(self) -> ir.DataType:
        """The float type of the model that its users compute in."""
        return kind_of(self.users[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        n, k = array_of(self.codes).shape
        return int(n), int(k)

    def code_array(self) -> np.ndarray:
        """Codes [N, K], one per byte."""
        byte = np.int8 if self.dtype.element.low < 0 else np.uint8
        return array_of(self.codes).astype(byte)

    def scale_array(self) -> np.ndarray:
        """Scales [N, groups] in their stored type; a single scale is repeated."""
        return self._per_row(array_of(self.scale))

    def zero_array(self) -> np.ndarray | None:
        """Zero points [N, groups], of type uint8 or the scale's type, or None."""
        if self.zero is None:
            return None
        return self._per_row(array_of(self.zero).astype(self.dtype.zero_kind))

    def tensor_scale_array(self) -> np.ndarray | None:
        """The scale of the whole tensor, float32, or None."""
        return None if self.tensor_scale is None else array_of(self.tensor_scale)

    def _per_row(self, array: np.ndarray) -> np.ndarray:
        n, k = self.shape
        return np.broadcast_to(array, (n, self.dtype.groups(k)))


def array_of(value: ir.Value) -> np.ndarray:
    """The array of an initializer."""
    assert value.const_value is not None
    return value.const_value.numpy()


def find_weights(model: ir.Model) -> list[Weight]:
    """Every low-bit weight of the model, subgraphs included."""
    found: dict[int, Weight] = {}
    for node in high_rung_nodes(model):
        dtype = DType.parse(node.overload)
        codes, scale, *rest = node.inputs[1:]
        assert codes is not None and scale is not None and isinstance(node.graph, ir.Graph)
        zero = rest.pop(0) if dtype.zero_point else None
        made = Weight(dtype, node.graph, codes, scale, zero, rest.pop() if rest else None)
        found.setdefault(id(codes), made).users.append(node)
    return list(found.values())


def high_rung_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes that read a low-bit weight, in order."""
    for node in model.graph.all_nodes():
        if node.domain == dialect.DOMAIN and node.op_type in HIGH_RUNG:
            yield node


def original_op(node: ir.Node) -> str:
    """The standard operator that a dialect node stands for: MatMul, Gemm, Gather or Conv."""
    return node.metadata_props.get(OP_KEY, HIGH_RUNG[node.op_type])


def replace_node(old: ir.Node, new: ir.Node) -> None:
    """Replace ``old`` by ``new``, which takes its name and the names of its outputs."""
    new.name, new.doc_string = old.name, old.doc_string
    kept = {k: v for k, v in old.metadata_props.items() if k not in (OP_KEY, BIAS_KEY)}
    new.metadata_props.update(kept)
    for before, after in zip(old.outputs, new.outputs, strict=True):
        after.name, after.type, after.shape = before.name, before.type, before.shape
        after.metadata_props.update(before.metadata_props)
        before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(old, new)
    graph.remove(old, safe=True)


def drop_weight(weight: Weight) -> None:
    """Remove the codes, scales and zero points that the dialect nodes read."""
    for value in (weight.codes, weight.scale, weight.zero, weight.tensor_scale):
        if value is not None and value.graph is not None and not value.uses():
            assert isinstance(value.graph, ir.Graph)
            value.graph.initializers.pop(value.name or "", None)


def kind_of(node: ir.Node) -> ir.DataType:
    """The float type of the model, of a dialect node."""
    return ir.DataType[node.metadata_props.get(KIND_KEY, ir.DataType.FLOAT.name)]


def absorb_casts(node: ir.Node) -> None:
    """Let a dialect node, which is replaced next, read and write the model's float type.

    %c = Cast<FLOAT>(%x); %p = LowBitMatMul(%c, ...); %y = Cast<FLOAT16>(%p)
      -->  %y = LowBitMatMul(%x, ...)
    """
    if KIND_KEY not in node.metadata_props:
        return
    first = node.inputs[0]
    made = first.producer() if first is not None else None
    if made is not None and KIND_KEY in made.metadata_props:
        node.replace_input_with(0, made.inputs[0])
        drop_unused([first])
    (use,) = node.outputs[0].uses()
    old, out = use.node.outputs[0], node.outputs[0]
    out.name, out.type, out.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(out, replace_graph_outputs=True)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(use.node, safe=True)
    del node.metadata_props[KIND_KEY]


def site_of(node: ir.Node) -> str:
    """The site's name, for messages."""
    return node.metadata_props.get(SITE_KEY) or node.name or str(node.outputs[0].name)
