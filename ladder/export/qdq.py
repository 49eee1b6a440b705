"""Standard operators: blocked DequantizeLinear before the original MatMul, Gemm or Gather."""

from __future__ import annotations

import onnx_ir as ir

from ladder.export.opset import raise_opset
from ladder.export.weights import (
    Names,
    Weight,
    add_initializer,
    drop_weight,
    find_weights,
    original_op,
    replace_node,
)

OPSET, OPSET_2_BITS = 21, 25
# ONNX Runtime replaces MatMul(x, DequantizeLinear(w)) by a product with int8 activations (an
# error of 0.5 %) when w is stored [K, N] in blocks of these sizes.
FUSED_BLOCKS = (16, 32, 64, 128, 256)


def to_qdq(model: ir.Model) -> None:
    """Rewrite in place; the model's opset becomes at least 21, or 25 for 2-bit types.

    %y = LowBitMatMul(%x, %codes, %scale)
      -->  %w = DequantizeLinear[block_size](%codes, %scale); %y = MatMul(%x, %w)
    """
    weights = find_weights(model)
    two_bits = any(w.dtype.element.onnx.bitwidth == 2 for w in weights)
    raise_opset(model, OPSET_2_BITS if two_bits else OPSET)
    names = Names(model)
    for weight in find_weights(model):
        _rewrite(weight, names)


def stored_transposed(weight: Weight) -> bool:
    """Whether the codes are stored [K, N], as a MatMul reads them."""
    ops = {original_op(node) for node in weight.users}
    return ops == {"MatMul"} and block_size(weight) not in FUSED_BLOCKS


def block_size(weight: Weight) -> int:
    """Weights along K that share a scale, as DequantizeLinear is told it."""
    _, k = weight.shape
    if weight.dtype.groups(k) > 1:
        return weight.dtype.group_size(k)
    return k + 1 if k in FUSED_BLOCKS else k  # one block: any size from K on means the same


def _rewrite(weight: Weight, names: Names) -> None:
    turned = stored_transposed(weight)
    kernel = _dequantized(weight, turned, names)
    swapped: ir.Value | None = None
    for node in list(weight.users):
        op = original_op(node)
        if op == "MatMul" and not turned and swapped is None:
            swapped = _transposed(weight, kernel, node, names)
        _restore(node, op, swapped if op == "MatMul" and swapped is not None else kernel)
    drop_weight(weight)


def _dequantized(weight: Weight, turned: bool, names: Names) -> ir.Value:
    """Constants and the DequantizeLinear node: w [N, K], or [K, N] if ``turned``."""
    graph, kind = weight.graph, weight.dtype.element.onnx
    arrays = {"quantized": weight.code_array(), "quantized.scale": weight.scale_array()}
    zero = weight.zero_array()
    if zero is not None:
        arrays["quantized.zero"] = zero
    inputs = [
        add_initializer(
            graph,
            names.fresh(f"{weight.name}.{part}"),
            array.T if turned else array,
            ir.DataType.FLOAT if part.endswith("scale") else kind,
        )
        for part, array in arrays.items()
    ]
    shape = ir.Shape(reversed(weight.shape) if turned else weight.shape)
    attributes = {"axis": 0 if turned else 1, "block_size": block_size(weight)}
    made = ir.node(
        "DequantizeLinear", inputs, attributes, name=names.fresh(f"{weight.name}.dequantize")
    )
    return _inserted(weight.users[0], made, names.fresh(f"{weight.name}.dequantized"), shape)


def _transposed(weight: Weight, kernel: ir.Value, user: ir.Node, names: Names) -> ir.Value:
    name = f"{weight.name}.transpose"
    made = ir.node("Transpose", [kernel], {"perm": [1, 0]}, name=names.fresh(name))
    shape = ir.Shape(reversed(weight.shape))
    return _inserted(user, made, names.fresh(f"{weight.name}.transposed"), shape)


def _inserted(before: ir.Node, made: ir.Node, name: str, shape: ir.Shape) -> ir.Value:
    out = made.outputs[0]
    out.name, out.shape, out.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
    assert isinstance(before.graph, ir.Graph)
    before.graph.insert_before(before, made)
    return out


def _restore(node: ir.Node, op: str, kernel: ir.Value) -> None:
    x = node.inputs[0]
    if op == "Gather":
        replace_node(node, ir.node("Gather", [kernel, x], {"axis": 0}))
    elif op == "Gemm":
        _restore_gemm(node, x, kernel)
    else:
        replace_node(node, ir.node("MatMul", [x, kernel]))


def _restore_gemm(node: ir.Node, x: ir.Value | None, kernel: ir.Value) -> None:
    """Take back the Add that rounding split off for the bias.

    %p = LowBitMatMul(%x, ...); %y = Add(%p, %b)  -->  %y = Gemm[transB=1](%x, %w, %b)
    """
    add = _bias_of(node)
    bias = [add.inputs[1]] if add is not None else []
    gemm = ir.node("Gemm", [x, kernel, *bias], {"transB": 1})
    if add is None:
        replace_node(node, gemm)
        return
    add.name = node.name
    add.metadata_props.update(node.metadata_props)
    replace_node(add, gemm)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)


def _bias_of(node: ir.Node) -> ir.Node | None:
    users = list(node.outputs[0].uses())
    if len(users) != 1 or node.outputs[0].is_graph_output():
        return None
    user = users[0].node
    mine = user.op_type == "Add" and user.name == f"{node.name}.bias" and users[0].idx == 0
    return user if mine else None
