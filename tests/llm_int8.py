"""LLM.int8() (Dettmers et al., NeurIPS 2022) as an oracle: outlier columns stay float.

A column of activations with any magnitude of 6.0 or more is multiplied in float with its column
of the weight; all others are rounded to integers, with one scale a token (as published) or one
for all of them. Float arithmetic throughout: rounded values times their scales. That differs from
integer sums only by float rounding, which is negligible next to the error of the rounding itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.blockwise.weights import find_groups
from ladder.ir import facts
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.ir.site import find_sites

THRESHOLD = 6.0


@dataclass(frozen=True)
class Oracle:
    """How activations are rounded: ``bits``, per tensor or token."""

    bits: int = 8
    per_token: bool = False
    threshold: float = THRESHOLD


def with_rounded_weights(model: ir.Model, type: str, method: str = "mse") -> ir.Model:
    """The model with every site's weight rounded to ``type`` and back."""
    copy = facts.clone(model)
    for group in find_groups(model, find_blocks(model)):
        array = group.rounded(DType.parse(type), method)
        value = copy.graph.initializers[group.weight_name]
        value.const_value = ir.tensor(array, name=value.name)
    return copy


def llm_int8(model: ir.Model, how: Oracle) -> ir.Model:
    """The model with the activations of every product rounded, and float weights."""
    copy = facts.clone(model)
    made: dict[int, ir.Value] = {}
    for site in find_sites(copy)[0]:
        if site.node.op_type in ("Gather", "Conv"):
            continue
        x = site.node.inputs[0]
        assert x is not None
        if id(x) not in made:
            made[id(x)] = _rounded(copy.graph, x, site.node, how)
        site.node.replace_input_with(0, made[id(x)])
    return copy


def _rounded(graph: ir.Graph, x: ir.Value, before: ir.Node, how: Oracle) -> ir.Value:
    """``x`` rounded to integers times a scale, except for the columns that stay float."""
    name, nodes = f"{x.name}.rounded", []

    def add(op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        nodes.append(ir.node(op, list(inputs), attributes))
        out = nodes[-1].outputs[0]
        out.name, nodes[-1].name = f"{name}.{len(nodes)}", f"{name}.{len(nodes)}"
        return out

    def constant(array: np.ndarray) -> ir.Value:
        nodes.append(ir.node("Constant", [], {"value": ir.tensor(array)}))
        out = nodes[-1].outputs[0]
        out.name, nodes[-1].name = f"{name}.{len(nodes)}", f"{name}.{len(nodes)}"
        return out

    size = add("Abs", x)
    assert x.shape is not None
    rows = constant(np.arange(len(x.shape) - 1, dtype=np.int64))
    largest = add("ReduceMax", size, rows, keepdims=1)
    kept = add("GreaterOrEqual", largest, constant(np.array(how.threshold, np.float32)))
    none = constant(np.array(0, np.float32))
    ordinary = add("Where", kept, none, size)
    axes = np.array([-1] if how.per_token else np.arange(len(x.shape)), np.int64)
    amax = add("ReduceMax", ordinary, constant(axes), keepdims=1)
    least = constant(np.array(1e-30, np.float32))
    levels = constant(np.array(2 ** (how.bits - 1) - 1, np.float32))
    scale = add("Div", add("Max", amax, least), levels)
    codes = add("Round", add("Div", add("Where", kept, none, x), scale))
    out = add("Where", kept, x, add("Mul", codes, scale))
    out.type, out.shape = x.type, x.shape
    graph.insert_before(before, nodes)
    return out
