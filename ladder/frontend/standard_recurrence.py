"""Recurrent operators of ONNX 27 become those of the dialect, which have kernels and a body.

    CausalConvWithState(input, weight, bias?, past_state?)            {activation}
    LinearAttention(query, key, value, past_state?, decay?, beta?)    {update_rule, ...}

A state that is absent is zero. What the dialect cannot say is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import dialect
from ladder.ir.names import add_initializer
from ladder.ir.recurrence import CORRECTS, DECAYS, DELTA, GATED, GATED_DELTA, LINEAR, NONE, SILU

STANDARD = ("", "ai.onnx")
ACTIVATIONS = {"none": NONE, "silu": SILU, "swish": SILU}
RULES = (LINEAR, GATED, DELTA, GATED_DELTA)
RUNNABLE = 25  # the opset of what is written and run
Operands = list[ir.Value | None]
Form = tuple[str, Operands, dict[str, int | float]]  # overload, inputs and attributes


def convert_recurrent(model: ir.Model) -> None:
    """Replace the nodes of ``model`` and lower its opset, if nothing else needs a newer one."""
    nodes = [n for n in model.graph.all_nodes() if n.domain in STANDARD and n.op_type in FORMS]
    for node in nodes:
        _replace(model.graph, node)
    if nodes:
        dialect.install(model)
        _lower_opset(model)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    if node.graph is not graph:
        raise _refused(node, "in a branch, a loop or a function", "move it to the main graph")
    overload, operands, attributes = FORMS[node.op_type](graph, node)
    outputs = [ir.Value(name=o.name, type=o.type, shape=o.shape) for o in node.outputs]
    given = [ir.convenience.convert_attribute(name, value) for name, value in attributes.items()]
    made = dialect.node(node.op_type, overload, operands, outputs, given)
    made.name = node.name
    made.metadata_props.update(node.metadata_props)
    graph.insert_before(node, made)
    for old, new in zip(node.outputs, outputs, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _convolution(graph: ir.Graph, node: ir.Node) -> Form:
    x, weight, bias, state = _inputs(node, 4)
    activation = node.attributes.get_string("activation", "none")
    if activation not in ACTIVATIONS:
        raise _refused(node, f"with activation='{activation}'", "use none, silu or swish")
    channels, _, taps = _sizes(node, weight, 3, "weight", known=(0, 2))
    _one_sequence(node, x)
    state = state or _zeros(graph, node, (1, channels, taps - 1))
    return ACTIVATIONS[activation], [x, weight, bias, state], {"group": channels}


def _attention(graph: ir.Graph, node: ir.Node) -> Form:
    query, key, value, state, decay, beta = _inputs(node, 6)
    rule = node.attributes.get_string("update_rule", GATED_DELTA)
    if rule not in RULES:
        raise _refused(node, f"with update_rule='{rule}'", f"use one of {', '.join(RULES)}")
    for name, operand, needed in (("decay", decay, DECAYS), ("beta", beta, CORRECTS)):
        if rule in needed and operand is None:
            raise _refused(node, f"with update_rule='{rule}' and no {name}", f"give {name}")
    heads, shared = (node.attributes.get_int(n, 0) for n in ("q_num_heads", "kv_num_heads"))
    width, depth = (
        _sizes(node, x, 3, n, known=(2,))[2] for n, x in (("query", query), ("value", value))
    )
    if beta is not None and rule in CORRECTS and _sizes(node, beta, 3, "beta", (2,))[2] != shared:
        raise _refused(node, "with one beta for all heads", "give one for each, with Expand")
    _one_sequence(node, query)
    size = width // heads
    state = state or _zeros(graph, node, (1, shared, size, depth // shared))
    scale = node.attributes.get_float("scale", 0.0) or size**-0.5
    operands = [query, key, value, state, decay if rule in DECAYS else None]
    operands.append(beta if rule in CORRECTS else None)
    return rule, operands, {"q_num_heads": heads, "kv_num_heads": shared, "scale": float(scale)}


FORMS: dict[str, Callable[[ir.Graph, ir.Node], Form]] = {
    "CausalConvWithState": _convolution,
    "LinearAttention": _attention,
}


def _inputs(node: ir.Node, count: int) -> Operands:
    return [*node.inputs, *[None] * count][:count]


def _sizes(
    node: ir.Node, value: ir.Value | None, rank: int, name: str, known: Sequence[int]
) -> list[int]:
    """The shape of an operand, 0 where a size that need not be ``known`` is open."""
    shape = value.shape if value is not None else None
    sizes = [size if isinstance(size, int) else 0 for size in shape or ()]
    if len(sizes) != rank or not all(sizes[axis] for axis in known):
        raise _refused(node, f"whose {name} has no known sizes", "run ONNX's shape inference first")
    return sizes


def _one_sequence(node: ir.Node, x: ir.Value | None) -> None:
    batch = x.shape[0] if x is not None and x.shape is not None else None
    if isinstance(batch, int) and batch != 1:
        raise _refused(node, f"of {batch} sequences at once", "export it with a batch of 1")


def _zeros(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...]) -> ir.Value:
    return add_initializer(graph, f"{node.outputs[0].name}.start", np.zeros(shape, np.float32))


def _lower_opset(model: ir.Model) -> None:
    opset = model.graph.opset_imports.get("", RUNNABLE)
    used = {n.op_type for n in model.graph.all_nodes() if n.domain in STANDARD}
    newest = max((onnx.defs.get_schema(op, opset).since_version for op in used), default=0)
    if newest <= RUNNABLE < opset:
        model.graph.opset_imports[""] = RUNNABLE


def _refused(node: ir.Node, what: str, instead: str) -> LadderError:
    return LadderError(f"{node.op_type} '{node.name or ''}' {what} is not supported: {instead}")
