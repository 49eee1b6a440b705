"""Stack products: several that read one activation become one product over all their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect, facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Muxing, Stacked
from ladder.ir.names import add_initializer
from ladder.ir.shapes import static_shape
from ladder.ir.site import SITE_KEY
from ladder.passes.infra.base import Facts, Pass

JOIN = "+"


@dataclass(frozen=True)
class StackProducts(Pass):
    """Join weights [N1, K], [N2, K], ... of one type that multiply the same %x.

    Muxed sites (the fact Muxing) are stacked if they are muxed in the same way.

    Rows of a weight are independent, so no output changes a bit. Biases are stacked too, if all of
    the products have one. Adds the fact Stacked: what was stacked, and why other products that
    share an activation were not.

        %q = LowBitMatMul[t](%x, %q.w...); %k = LowBitMatMul[t](%x, %k.w...)
          -->  %q+k = LowBitMatMul[t](%x, rows of both); %q, %k = Split(%q+k)
    """

    gives: ClassVar[Facts] = (Stacked,)

    def run(self, model: ir.Model) -> None:
        stacks: dict[str, tuple[str, ...]] = {}
        reasons: dict[str, str] = {}
        muxing = facts.get(model, Muxing) or Muxing()
        for users in _by_activation(model):
            by_type: dict[tuple[object, ...], list[ir.Node]] = {}
            for node in users:
                reason, muxed = _refuse(node), muxing.sites.get(_site(node))
                if reason is None:
                    how = (muxed.mux, muxed.channels) if muxed else ()
                    by_type.setdefault((node.overload, *how), []).append(node)
                else:
                    reasons[_site(node)] = reason
            for nodes in by_type.values():
                sites = tuple(_site(node) for node in nodes)
                if len(nodes) > 1:
                    _stack(nodes, stack_name(sites))
                    stacks[stack_name(sites)] = sites
                else:
                    reasons[sites[0]] = "no other product of its activation has its type"
        facts.put(model, Stacked(stacks, reasons))
        dialect.install(model)


def _by_activation(model: ir.Model) -> list[list[ir.Node]]:
    """Groups of two or more products that read one value, in the order of the graph."""
    users: dict[tuple[int, int], list[ir.Node]] = {}
    for node in model.graph.all_nodes():
        if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul":
            users.setdefault((id(node.graph), id(node.inputs[0])), []).append(node)
    return [nodes for nodes in users.values() if len(nodes) > 1]


def _refuse(node: ir.Node) -> str | None:
    """Why a product that shares its activation cannot be stacked with any other."""
    dtype = DType.parse(node.overload)
    if dtype.tensor_scale or dtype.group == "tensor":
        return f"{dtype} has one scale for the whole tensor"
    tied = [v for v in node.inputs[1:] if v is not None and len(v.uses()) > 1]
    return "its weight has other users" if tied else None


def _stack(nodes: Sequence[ir.Node], name: str) -> None:
    """Replace ``nodes`` by one product called ``name`` and a Split."""
    first, graph = nodes[0], nodes[0].graph
    assert isinstance(graph, ir.Graph)
    sizes = [(static_shape(node.inputs[1]) or (0,))[0] for node in nodes]
    weights = [[v for v in node.inputs[1:] if v is not None] for node in nodes]
    out = _wide(nodes, sum(sizes))
    operands = [_rows(graph, name, column) for column in zip(*weights, strict=True)]
    product = dialect.node(first.op_type, first.overload, [first.inputs[0], *operands], [out])
    product.name = name
    product.metadata_props.update({**first.metadata_props, SITE_KEY: name})
    made, ends = [product], list(nodes)
    found = [b for b in map(_bias, nodes, sizes) if b is not None]
    if len(found) == len(nodes):
        ends = [add for add, _ in found]
        bias = _concatenated(graph, f"{name}.bias", [value for _, value in found])
        out = _wide(ends, sum(sizes))
        inputs = [*product.outputs, bias]
        made.append(ir.Node("", "Add", inputs, outputs=[out], name=f"{name}.add_bias"))
    graph.insert_before(first, [*made, _split(graph, name, out, ends, sizes)])
    for node in dict.fromkeys([*ends, *nodes]):
        graph.remove(node, safe=True)
    for value in [*chain.from_iterable(weights), *(value for _, value in found)]:
        if not value.uses() and value.graph is graph:
            graph.initializers.pop(str(value.name))


def stack_name(sites: Sequence[str]) -> str:
    """``layer.q_proj``, ``layer.k_proj`` -> ``layer.q_proj+k_proj``."""
    scopes = zip(*(site.split(".")[:-1] for site in sites), strict=False)
    prefix = "".join(f"{words[0]}." for words in takewhile(lambda w: len({*w}) == 1, scopes))
    return prefix + JOIN.join(site.removeprefix(prefix) for site in sites)


def _site(node: ir.Node) -> str:
    return node.metadata_props.get(SITE_KEY, node.name or str(node.outputs[0].name))


def _rows(graph: ir.Graph, name: str, values: Sequence[ir.Value]) -> ir.Value:
    """One operand of the stacked weight, named as in its parts: ``.codes``, ``.scale``, ..."""
    return _concatenated(graph, f"{name}.{str(values[0].name).rpartition('.')[2]}", values)


def _concatenated(graph: ir.Graph, name: str, values: Sequence[ir.Value]) -> ir.Value:
    """A new initializer: the rows of ``values`` in order."""
    arrays = [value.const_value.numpy() for value in values if value.const_value is not None]
    return add_initializer(graph, name, np.concatenate(arrays), values[0].dtype)


def _bias(node: ir.Node, n: int) -> tuple[ir.Node, ir.Value] | None:
    """The Add that is a product's only user, and its other term: a constant [N] of its own."""
    out = node.outputs[0]
    uses = list(out.uses())
    if len(uses) != 1 or out.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    add = uses[0].node
    value = add.inputs[1 - uses[0].idx]
    if add.graph is not node.graph or value is None or not value.is_initializer():
        return None
    own = len(value.uses()) == 1 and not value.is_graph_output()
    return (add, value) if own and static_shape(value) == (n,) else None


def _wide(nodes: Sequence[ir.Node], n: int) -> ir.Value:
    """The value of all outputs, concatenated."""
    values = [node.outputs[0] for node in nodes]
    shape = values[0].shape
    dims = None if shape is None else ir.Shape([*shape.dims[:-1], n])
    name = JOIN.join(str(value.name) for value in values)
    return ir.Value(name=name, type=values[0].type, shape=dims)


def _split(
    graph: ir.Graph, name: str, wide: ir.Value, ends: Sequence[ir.Node], sizes: Sequence[int]
) -> ir.Node:
    """The node that gives each old output its columns."""
    rows = add_initializer(graph, f"{name}.rows", np.array(sizes, np.int64))
    outputs = []
    for old in (node.outputs[0] for node in ends):
        outputs.append(ir.Value(name=old.name, type=old.type, shape=old.shape))
        old.replace_all_uses_with(outputs[-1], replace_graph_outputs=True)
    axis = ir.AttrInt64("axis", -1)
    return ir.Node("", "Split", [wide, rows], [axis], outputs=outputs, name=f"{name}.split")
