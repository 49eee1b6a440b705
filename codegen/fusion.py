"""Fusion: a kernel also computes its activation's producer, and the additions after it.

The IR keeps the dialect's operators, whose functions fix the bits. Here neighbouring nodes are
marked to be computed by one kernel, with the same bits:

- RMSNormalization, or Mul(%gate * Sigmoid(%gate), %up), before QuantizeActivation,
  MuxActivation or PrecomputeTable: attribute ``source``, with the producer's operands in place of
  its output;
- TabulateActivation after QuantizeActivation: attribute ``tables``, tables in place of codes;
- Adds after a product: attribute ``addends`` counts them, and their other operands come last;
- products with the weights of chosen experts, and the LowBitGather that reads these
  (``expert_fusion``).

A value that has other readers is not fused, so nothing is computed twice.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
import onnx_ir.passes.common as common

from ladder.codegen.expert_fusion import fuse_experts
from ladder.ir import dialect
from ladder.ir.shapes import static_shape

STORED = frozenset({ir.DataType.FLOAT16, ir.DataType.INT8})  # keys and values
ATTENTION_INPUTS = 7
PRODUCTS = ("LutGemm", "DotGemm", "MuxGemm")
ON_FLOATS = ("QuantizeActivation", "MuxActivation", "PrecomputeTable")
RMS_NORM, GATE, GATE_UP, UP_GATE = "rms_norm", "gate", "gate_up", "up_gate"


class Producer(NamedTuple):
    """The producer of an activation: its source (``kernels.sources``), operands and attributes."""

    operands: list[ir.Value]
    attributes: list[ir.Attr]


def fuse(model: ir.Model) -> None:
    """Mark the nodes that one kernel computes, and remove those that became part of others."""
    for node in list(model.graph):
        if node.domain != dialect.DOMAIN:
            continue
        if node.op_type == "TabulateActivation":
            _fuse_tables(node)
        elif node.op_type in PRODUCTS:
            _fuse_addends(node)
    for node in list(model.graph):
        if node.domain == dialect.DOMAIN and node.op_type in ON_FLOATS:
            _fuse_producer(node)
        elif node.op_type == "Attention" and node.domain == "":
            _fuse_stored(node)
    fuse_experts(model)
    common.RemoveUnusedNodesPass()(model)


def _fuse_stored(node: ir.Node) -> None:
    """Attention(%q, Cast(%k), Cast(%v))  -->  Attention(%q, %k, %v) for float16

    Attention(%q, Mul(Cast(%k), %s), Mul(Cast(%v), %t))  -->  the codes, and both scales at the end
    """
    found = [_stored_as(value) for value in node.inputs[1:3]]
    types = {stored.dtype for stored, _ in found}
    if len(types) != 1 or types.isdisjoint(STORED):
        return
    for place, (stored, _) in enumerate(found, 1):
        node.replace_input_with(place, stored)
    scales = [scale for _, scale in found if scale is not None]
    if scales:
        node.resize_inputs(ATTENTION_INPUTS + len(scales))
        for place, scale in enumerate(scales, ATTENTION_INPUTS):
            node.replace_input_with(place, scale)


def _stored_as(value: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
    """What keys or values are stored as, and the scale of their codes if there is one."""
    assert value is not None
    node, scale = value.producer(), None
    if node is not None and _is(node, "Mul"):
        scale, node = node.inputs[1], node.inputs[0].producer() if node.inputs[0] else None
    stored = node.inputs[0] if node is not None and _is(node, "Cast") else None
    coded = stored is not None and stored.dtype == ir.DataType.INT8
    if stored is None or coded != (scale is not None) or not _by_row(stored, scale):
        return value, None
    return stored, scale


def _by_row(stored: ir.Value, scale: ir.Value | None) -> bool:
    """Whether a scale, if there is one, belongs to each head and row."""
    if scale is None:
        return True
    shapes = static_shape(stored), static_shape(scale)
    return shapes[0] is not None and shapes[1] == (*shapes[0][:-1], 1)


def _fuse_tables(node: ir.Node) -> None:
    """TabulateActivation(QuantizeActivation(%x).q)  -->  the latter, with tables."""
    codes = node.inputs[0]
    quantize = _only_reader(codes, node)
    if codes is None or quantize is None or quantize.op_type != "QuantizeActivation":
        return
    quantize.attributes.add(ir.AttrInt64("tables", 1))
    node.outputs[0].replace_all_uses_with(codes)


def _fuse_addends(node: ir.Node) -> None:
    """Add(product, %b), and again  -->  the product, with %b as an operand."""
    addends: list[ir.Value] = []
    last = node
    while (found := _add_after(last)) is not None:
        last, other = found
        addends.append(other)
    if not addends:
        return
    graph, out = last.graph, last.outputs[0]
    assert graph is not None
    # At the last Add, where all addends have been computed.
    new = dialect.node(node.op_type, node.overload, [*node.inputs, *addends], [_like(out)])
    new.name = node.name
    new.metadata_props.update(node.metadata_props)
    new.attributes.add(ir.AttrInt64("addends", len(addends)))
    graph.insert_before(last, new)
    out.replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)


def addends_of(node: ir.Node) -> int:
    """How many of a product's last operands are added to it."""
    count = node.attributes.get("addends")
    return 0 if count is None else count.as_int()


def _add_after(node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The Add that is the only reader of ``node``'s output, and its other operand."""
    out = node.outputs[0]
    uses = list(out.uses())
    if len(uses) != 1 or out.is_graph_output():
        return None
    add = uses[0].node
    other = add.inputs[1 - uses[0].idx] if _is(add, "Add") and add.graph is node.graph else None
    return None if other is None else (add, other)


def _fuse_producer(node: ir.Node) -> None:
    x = node.inputs[0]
    maker = _only_reader(x, node)
    producer = None
    if maker is not None and _is(maker, "RMSNormalization"):
        producer = _normalization(maker)
    elif maker is not None and _is(maker, "Mul"):
        producer = _gating(maker)
    if producer is None:
        return
    outputs = [_like(value) for value in node.outputs]
    operands = [*producer.operands, *node.inputs[1:]]
    new = dialect.node(node.op_type, node.overload, operands, outputs)
    for attribute in [*node.attributes.values(), *producer.attributes]:
        new.attributes.add(attribute)
    new.name = node.name
    assert node.graph is not None
    node.graph.insert_before(node, new)
    for old, made in zip(node.outputs, outputs, strict=True):
        old.replace_all_uses_with(made)


def _normalization(node: ir.Node) -> Producer | None:
    """RMSNormalization over the last axis, of floats."""
    x, weight = node.inputs[:2]
    axis, epsilon = (node.attributes.get(name) for name in ("axis", "epsilon"))
    over_last = axis is None or axis.as_int() == -1
    if x is None or weight is None or x.dtype != ir.DataType.FLOAT or not over_last:
        return None
    value = 1e-5 if epsilon is None else epsilon.as_float()
    attributes = [ir.AttrString("source", RMS_NORM), ir.AttrFloat32("epsilon", value)]
    return Producer([x, weight], attributes)


def _gating(node: ir.Node) -> Producer | None:
    """%gate * Sigmoid(%gate) * %up; what is quantized is always float."""
    for place, value in enumerate(node.inputs):
        gate, up = _gate_of(value, node), node.inputs[1 - place]
        if gate is None or up is None:
            continue
        halves, shape = _halves(gate, up), static_shape(gate)
        if halves is not None:
            return halves
        if shape is not None and shape == static_shape(up):
            return Producer([gate, up], [ir.AttrString("source", GATE)])
    return None


def _halves(gate: ir.Value, up: ir.Value) -> Producer | None:
    """The producer if gate and up are the two halves of one value along its last axis."""
    split = gate.producer()
    if split is None or not _is(split, "Split") or split is not up.producer():
        return None
    wide, sizes = (*split.inputs, None)[:2]
    axis = split.attributes.get("axis")
    known = sizes.const_value if sizes is not None else None
    equal = known is not None and len({int(n) for n in known.numpy()}) == 1
    if not equal or axis is None or axis.as_int() != -1 or len(split.outputs) != 2 or gate is up:
        return None
    assert wide is not None
    order = GATE_UP if gate is split.outputs[0] else UP_GATE
    return Producer([wide], [ir.AttrString("source", order)])


def _gate_of(value: ir.Value | None, reader: ir.Node) -> ir.Value | None:
    """%gate, if ``value`` is %gate * Sigmoid(%gate)."""
    silu = _only_reader(value, reader)
    if silu is None or not _is(silu, "Mul"):
        return None
    for place, factor in enumerate(silu.inputs):
        gate, sigmoid = silu.inputs[1 - place], _only_reader(factor, silu)
        if sigmoid is not None and _is(sigmoid, "Sigmoid") and sigmoid.inputs[0] is gate:
            return gate
    return None


def _only_reader(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    """The node that computes ``value``, if ``reader`` is the only one to read it, once."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    maker = value.producer()
    return maker if maker is not None and maker.graph is reader.graph else None


def _is(node: ir.Node, op_type: str) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type == op_type


def _like(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, type=value.type, shape=value.shape)
