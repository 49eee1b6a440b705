"""Products and convolutions with static scales: QuantizeLinear and DequantizeLinear pairs.

ONNX Runtime and the compilers of NPUs turn such pairs around a convolution, an Add or a MaxPool
into one integer operator. Around a product only its input has a pair: its result stays float.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export.decode import dequantized_columns, dequantized_kernel
from ladder.export.dynamic import whole_rows
from ladder.export.emit import Emitter
from ladder.export.pairs import Grid, Pairs
from ladder.export.qdq import restore_with_bias
from ladder.export.weights import (
    drop_weight,
    find_weights,
    high_rung_nodes,
    kind_of,
    original_op,
    replace_node,
)
from ladder.ir import facts
from ladder.ir.activation import QUANTIZED, WITH_ZERO_POINT
from ladder.ir.dtype import DType
from ladder.ir.facts import ActivationRanges, Muxing, StaticScales
from ladder.ir.names import Names, add_initializer
from ladder.ir.site import BIAS_KEY, KIND_KEY, SITE_KEY, constant_of
from ladder.ir.unused import drop_unused

FORM = "MatMul between QuantizeLinear and DequantizeLinear"
CONVOLUTION = "Conv between QuantizeLinear and DequantizeLinear"
STAYS_IN_RANGE = ("Relu", "Clip")  # after a convolution or an Add: fused into its integer form
LOWEST = {ir.DataType.UINT8: 0, ir.DataType.INT8: -128}


def refuse(op: str, dtype: DType, k: int, kind: ir.DataType) -> str | None:
    """Why a site of this type, in a model of ``kind``, has no static form, or None."""
    if op == "Conv" and kind != ir.DataType.FLOAT:
        return f"integer convolutions have no {kind.name}"
    whole = whole_rows(dtype, k)
    return None if whole else f"{dtype} has no signed integers with one scale per out feature"


def write_sites(model: ir.Model, mode: str, opset: int, portable: bool) -> None:
    """Rewrite the products and convolutions of the main graph that have a static form.

    %y = LowBitMatMul(%x, %w...)
      -->  %d = DequantizeLinear(QuantizeLinear(%x, s, z), s, z)
           %y = MatMul(%d, DequantizeLinear[axis=1](%codes, %scale))

    A convolution's output has a pair too, after its Relu or Clip, and so has what is added to it.
    """
    found = _with_float_weights(model, Names(model), opset)
    kind = ir.DataType.UINT8 if mode in WITH_ZERO_POINT else ir.DataType.INT8
    symmetric = facts.get(model, StaticScales) if mode in QUANTIZED else None
    placer = _Placer(model, kind, symmetric or StaticScales())
    for node in list(model.graph):
        placer.place(node, found.get(id(node)))
    for site in found.values():
        if site.scales is None and not portable:
            _subtract_bias(site.node)


@dataclass(frozen=True)
class _Site:
    """A rewritten node; ``scales`` are those of a convolution's weight [N]."""

    node: ir.Node
    name: str
    scales: np.ndarray | None


def _with_float_weights(model: ir.Model, names: Names, opset: int) -> dict[int, _Site]:
    """Write the weights, decoded, and return the new nodes by identity."""
    muxed = facts.get(model, Muxing) or Muxing()
    weights = {id(weight.codes): weight for weight in find_weights(model)}
    found, kernels = {}, dict[tuple[int, str], ir.Value]()
    for node in list(high_rung_nodes(model)):
        weight, op = weights[id(node.inputs[1])], original_op(node)
        site = node.metadata_props.get(SITE_KEY, "")
        stored = node.graph is not model.graph or site in muxed.sites or op == "Gather"
        if stored or refuse(op, weight.dtype, weight.shape[1], kind_of(node)):
            continue
        key = (id(weight.codes), "Conv" if op == "Conv" else "MatMul")
        emit = Emitter(replace(weight, users=[node]), names, opset)
        if key not in kernels:
            kernels[key] = _kernel(emit, node, key[1])
        made = _with_kernel(node, key[1], kernels[key])
        scales = weight.scale_array()[:, 0].astype(np.float32) if op == "Conv" else None
        found[id(made)] = _Site(made, site, scales)
    for weight in weights.values():
        drop_weight(weight)
    return found


def _kernel(emit: Emitter, node: ir.Node, op: str) -> ir.Value:
    if op == "MatMul":
        return dequantized_columns(emit, ir.DataType.INT8)
    taps = list(node.attributes["kernel_shape"].as_ints())
    return dequantized_kernel(emit, taps, ir.DataType.INT8)


def _with_kernel(node: ir.Node, op: str, kernel: ir.Value) -> ir.Node:
    if op == "Conv":
        return restore_with_bias(node, op, kernel, list(node.attributes.values()))
    made = ir.node(op, [node.inputs[0], kernel])
    replace_node(node, made)
    return made


class _Placer:
    """Puts pairs into the main graph, node by node in its order."""

    def __init__(self, model: ir.Model, kind: ir.DataType, symmetric: StaticScales) -> None:
        self._graph, self._kind = model.graph, kind
        self._ranges = (facts.get(model, ActivationRanges) or ActivationRanges()).ranges
        self._symmetric = symmetric.scales
        self._pairs = Pairs(model, kind)

    def place(self, node: ir.Node, site: _Site | None) -> None:
        if site is not None:
            grid = self._pairs.read(node, 0, self._grid_of(node.inputs[0], site))
            if site.scales is not None:
                self._pairs.put_bias(node, grid.scale * site.scales)
                self._after(node)
        elif node.op_type == "Add" and self._adds_codes(node):
            for i, value in enumerate(node.inputs):
                self._pairs.read(node, i, self._grid_of(value))
            self._after(node)
        elif node.op_type == "MaxPool" and (same := self._pairs.grid(node.inputs[0])):
            self._pairs.spread(node.outputs[0], same)

    def _after(self, node: ir.Node) -> None:
        """A pair for the node's result, which all its readers read."""
        value = node.outputs[0]
        users = list(value.uses())
        if len(users) == 1 and not value.is_graph_output():
            user = users[0].node
            value = user.outputs[0] if user.op_type in STAYS_IN_RANGE else value
        self._pairs.spread(value, self._grid_of(value))

    def _adds_codes(self, node: ir.Node) -> bool:
        """Whether it adds two activations, of which one is the result of an integer operator."""
        known = [value for value in node.inputs if value is not None]
        own = all(constant_of(v) is None and (v.name in self._ranges or self._pairs.grid(v))
                  for v in known)  # fmt: skip
        return own and any(self._pairs.grid(v) is not None for v in known)

    def _grid_of(self, value: ir.Value | None, site: _Site | None = None) -> Grid:
        assert value is not None
        known = self._pairs.grid(value)
        if known is not None:
            return known
        if site is not None and site.scales is None and site.name in self._symmetric:
            return Grid(np.float32(self._symmetric[site.name]), 0)
        name = _original(value).name or ""
        if name not in self._ranges:
            raise LadderError(
                f"value '{name}' has no static range: calibration did not see it; "
                "keep its reader with --keep"
            )
        return Grid.over(*self._ranges[name], LOWEST[self._kind])


def _original(value: ir.Value) -> ir.Value:
    """The value of the model, of one that rounding cast to float32."""
    made = value.producer()
    if made is None or KIND_KEY not in made.metadata_props or made.op_type != "Cast":
        return value
    assert made.inputs[0] is not None
    return made.inputs[0]


def _subtract_bias(node: ir.Node) -> None:
    """Subtract the negated bias: ONNX Runtime makes a float Gemm of a MatMul and an Add.

    %y = Add(MatMul(%d, %w), %b)  -->  %y = Sub(MatMul(%d, %w), -%b)
    """
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or uses[0].node.op_type != "Add":
        return
    add = uses[0].node
    bias = add.inputs[1 - uses[0].idx]
    tensor = constant_of(bias)
    if tensor is None or bias is None or not isinstance(add.graph, ir.Graph):
        return
    negated = add_initializer(add.graph, f"{bias.name}.negated", -tensor.numpy())
    add.metadata_props.pop(BIAS_KEY, None)
    replace_node(add, ir.node("Sub", [node.outputs[0], negated]))
    drop_unused([bias])
