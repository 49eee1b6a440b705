"""Export to standard operators: the decoded weight, then a MatMul, Gemm, Gather or Conv."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx_ir as ir

from ladder.export.decode import (
    DEQUANTIZE,
    FUSED_BLOCKS,
    block_size,
    decoded,
    dequantized_kernel,
    form,
    least_opset,
    per_row,
)
from ladder.export.emit import Emitter
from ladder.export.weights import (
    Weight,
    absorb_casts,
    drop_weight,
    original_op,
    replace_node,
)
from ladder.ir.site import BIAS_KEY
from ladder.ir.unused import drop_unused


def needed_opset(weights: Iterable[Weight]) -> int:
    """The opset that the forms of these weights need (21, for 2 bits 25, for some less)."""
    return max((least_opset(weight.dtype, weight.kind) for weight in weights), default=1)


def quantizes_activations(model: ir.Model) -> bool:
    """Whether a DequantizeLinear reads a computed value.

    ONNX Runtime then computes products of such values and weights in bytes. Where a CPU has no
    VNNI, its sums of unsigned times signed bytes overflow, those of unsigned bytes do not.
    """
    return any(
        node.op_type == "DequantizeLinear" and node.inputs[0].producer() is not None
        for node in model.graph.all_nodes()
        if node.inputs and node.inputs[0] is not None
    )


def stored_transposed(weight: Weight) -> bool:
    """Whether the codes are stored [K, N], as a MatMul reads them."""
    dtype, ops = weight.dtype, {original_op(node) for node in weight.users}
    fused = form(dtype) == DEQUANTIZE and block_size(dtype, weight.shape[1]) in FUSED_BLOCKS
    return ops == {"MatMul"} and not fused


def rewrite(emit: Emitter) -> None:
    """Replace the users of a weight in place.

    %y = LowBitMatMul(%x, %codes, %scale)
      -->  %w = DequantizeLinear[block_size](%codes, %scale); %y = MatMul(%x, %w)

    If DequantizeLinear has no such type, %w = Mul(Gather(%book, %codes), %scale) or
    %w = Mul(Sub(%codes, %zero), %scale).
    """
    weight = emit.weight
    turned = stored_transposed(weight)
    ops = {original_op(node) for node in weight.users}
    # Write everything before the first user is removed: new nodes are inserted before it.
    if ops == {"Conv"} and per_row(weight.dtype, weight.shape[1]):
        taps = list(weight.users[0].attributes["kernel_shape"].as_ints())
        kernel = dequantized_kernel(emit, taps)
        by_op = {"Conv": kernel}
    else:
        kernel = decoded(emit, turned)
        by_op = {} if turned else _layouts(emit, kernel)
    by_op = {op: _in_kind(emit, value, op) for op, value in by_op.items()}
    kernel = kernel if ops <= set(by_op) else _in_kind(emit, kernel, "")
    for node in list(weight.users):
        absorb_casts(node)
        op, x = original_op(node), node.inputs[0]
        if op == "Gather":
            replace_node(node, ir.node(op, [kernel, x], {"axis": 0}))
        elif op == "MatMul":
            replace_node(node, ir.node(op, [x, by_op.get(op, kernel)]))
        elif op == "Gemm":
            restore_with_bias(node, op, kernel, [ir.AttrInt64("transB", 1)])
        else:
            restore_with_bias(node, op, by_op[op], list(node.attributes.values()))
    drop_weight(weight)


def _in_kind(emit: Emitter, value: ir.Value, part: str) -> ir.Value:
    """A decoded weight in the model's type, if DequantizeLinear does not have that."""
    kind = emit.weight.kind
    if kind == emit.kind:
        return value
    shape = None if value.shape is None else list(value.shape)
    name = ".".join(filter(None, (part.lower(), kind.name.lower())))
    return emit.node("Cast", [value], {"to": int(kind)}, name, shape, kind)


def _layouts(emit: Emitter, kernel: ir.Value) -> dict[str, ir.Value]:
    """w [N, K] in the layout of MatMul, and in that of Conv if there is one.

    Convolutions that share a weight have the same window, so one layout is enough.
    """
    users = {original_op(node): node for node in emit.weight.users}
    made = {}
    if "MatMul" in users:
        shape = tuple(reversed(emit.weight.shape))
        swap = {"perm": [1, 0]}
        made["MatMul"] = emit.node("Transpose", [kernel], swap, "transposed", shape)
    if "Conv" in users:
        made["Conv"] = _window(emit, kernel, users["Conv"])
    return made


def _window(emit: Emitter, kernel: ir.Value, node: ir.Node) -> ir.Value:
    """A weight [N, K] with channels innermost, as the kernel [O, C/group, *taps] of a Conv."""
    (n, k), taps = emit.weight.shape, list(node.attributes["kernel_shape"].as_ints())
    channels = k // prod(taps)
    if channels < k and channels > 1:
        deep = [n, k // channels, channels]
        kernel = emit.reshape(kernel, "by_tap", deep)
        first = [n, channels, k // channels]
        kernel = emit.node("Transpose", [kernel], {"perm": [0, 2, 1]}, "by_channel", first)
    return emit.reshape(kernel, "window", [n, channels, *taps])


def restore_with_bias(
    node: ir.Node, op: str, kernel: ir.Value, attributes: list[ir.Attr]
) -> ir.Node:
    """Merge the Add of a bias, which rounding split off, back into the product; return it.

    %p = LowBitMatMul(%x, ...); %y = Add(%p, %b)  -->  %y = Gemm[transB=1](%x, %w, %b)
    %p = LowBitConv(%x, ...); %y = Add(%p, Reshape(%b))  -->  %y = Conv(%x, %w, %b)
    """
    add = _bias_of(node)
    bias = None if add is None else _flat_bias(add.inputs[1], op)
    inputs = [node.inputs[0], kernel, *([] if bias is None else [bias])]
    made = ir.Node("", op, inputs, attributes)
    if add is None:
        replace_node(node, made)
        return made
    add.name = node.name
    add.metadata_props.update(node.metadata_props)
    column = add.inputs[1]
    replace_node(add, made)
    _remove(node)
    if op == "Conv":  # another convolution may read the same
        drop_unused([column])
    return made


def _flat_bias(bias: ir.Value | None, op: str) -> ir.Value | None:
    """A bias [O]; rounding adds that of a Conv through a Reshape."""
    column = bias.producer() if bias is not None and op == "Conv" else None
    return bias if column is None else column.inputs[0]


def _remove(node: ir.Node) -> None:
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)


def _bias_of(node: ir.Node) -> ir.Node | None:
    users = list(node.outputs[0].uses())
    if len(users) != 1 or node.outputs[0].is_graph_output():
        return None
    user = users[0].node
    mine = user.op_type == "Add" and BIAS_KEY in user.metadata_props and users[0].idx == 0
    return user if mine else None
