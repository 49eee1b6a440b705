"""Where each token of a graph is computed alone: its end can run for the last token only.

A language model ends in operators that know nothing of other tokens: the last block's MLP, a
normalization, the head. Only attention and states read several tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from ladder.ir import dialect

FLOATS = (ir.DataType.FLOAT, None)  # the type of some values is not known
AXIS = 1  # of the tokens
ELEMENTWISE = frozenset(
    "Abs Add Cast Clip Div Erf Exp Gelu Identity Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid "
    "Softplus Sqrt Sub Tanh".split()
)
LAST_AXIS = frozenset({"LayerNormalization", "RMSNormalization", "Softmax", "Split"})
WHOLE = 1 << 31  # the end of a slice that takes everything


def first_alone(model: ir.Model, tokens: str) -> ir.Value | None:
    """The earliest value [1, ``tokens``, D] from which on every token is computed alone.

    The first output of the graph depends on it only, and on constants. None if there is no such
    value.
    """
    order = {node: place for place, node in enumerate(model.graph)}
    open_values, found = {model.graph.outputs[0]}, None
    while True:
        makers = [value.producer() for value in open_values]
        nodes = [node for node in makers if node is not None]
        if len(nodes) < len(makers):
            return found
        latest = max(nodes, key=order.__getitem__)
        if not _alone(latest, tokens):
            return found
        open_values = {v for v in open_values if v.producer() is not latest} | set(_data(latest))
        only = next(iter(open_values)) if len(open_values) == 1 else None
        if only is not None and _has_rows(only, tokens):
            found = only


def _data(node: ir.Node) -> list[ir.Value]:
    """The inputs that are not constant."""
    return [value for value in node.inputs if value is not None and _constant(value) is None]


def _constants(node: ir.Node) -> list[ir.TensorProtocol]:
    found = (_constant(value) for value in node.inputs if value is not None)
    return [constant for constant in found if constant is not None]


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """An initializer, or any form of a Constant node."""
    return ir.convenience.get_const_tensor(value)


def _has_rows(value: ir.Value, tokens: str) -> bool:
    """Whether a value is known to be float [1, ``tokens``, D]."""
    shape = value.shape
    if shape is None or len(shape) != 3 or value.dtype not in FLOATS:
        return False
    dim = shape[AXIS]
    return shape[0] == 1 and isinstance(dim, ir.SymbolicDim) and dim.value == tokens


def _row_like(value: ir.Value, tokens: str) -> bool:
    """``_has_rows``, or the result of an elementwise operator on such values."""
    node = value.producer()
    if value.shape is not None or node is None or not _is_elementwise(node):
        return _has_rows(value, tokens)
    return all(_row_like(x, tokens) for x in _data(node))


def _alone(node: ir.Node, tokens: str) -> bool:
    """Whether a row of the result depends on the same row of the operands only."""
    data = _data(node)
    if not data or not all(_row_like(value, tokens) for value in data):
        return False
    if node.domain == dialect.DOMAIN:
        return node.op_type == "LowBitMatMul" and data == [node.inputs[0]]
    rule = RULES.get(node.op_type)
    return node.domain in ("", "ai.onnx") and rule is not None and rule(node, data)


def _is_elementwise(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type not in ELEMENTWISE:
        return False
    return all(_broadcast(value) for value in _constants(node))


def _broadcast(constant: ir.TensorProtocol) -> bool:
    """Whether a constant is the same for all tokens."""
    return len(constant.shape) <= 3 and set(constant.shape[:-1]) <= {1}


def _on_last_axis(node: ir.Node, data: Iterable[ir.Value]) -> bool:
    axis = node.attributes.get("axis")
    default = 0 if node.op_type == "Split" else -1
    last = (axis.as_int() if axis is not None else default) in (-1, AXIS + 1)
    return last and data == [node.inputs[0]]


def _product(node: ir.Node, data: Iterable[ir.Value]) -> bool:
    return data == [node.inputs[0]] and len(_constants(node)[0].shape) == 2


def _slice(node: ir.Node, data: Iterable[ir.Value]) -> bool:
    """A slice of the last axis, or one of everything."""
    if data != [node.inputs[0]] or len(node.inputs) < 4:
        return False
    starts, ends, axes, *steps = (constant.numpy() for constant in _constants(node))
    if any((step != 1).any() for step in steps):
        return False
    whole = (starts == 0) & (ends >= WHOLE)
    return bool((whole | (axes == -1) | (axes == AXIS + 1)).all())


RULES: dict[str, Callable[[ir.Node, list[ir.Value]], bool]] = {
    **dict.fromkeys(ELEMENTWISE, lambda node, _: _is_elementwise(node)),
    **dict.fromkeys(LAST_AXIS, _on_last_axis),
    "MatMul": _product,
    "Slice": _slice,
}
