"""The low-bit operators of the dialect as Relax operators, and attention as in ONNX.

    ladder.low_bit_matmul(x, codes, scale[, zero][, tensor_scale]) -> x @ dequantize(weight).T
    ladder.low_bit_gather(ids, codes, scale[, zero][, tensor_scale]) -> dequantize(weight)[ids]
    ladder.attention(q, keys, values, mask) -> like q: [1, heads, S, D], [1, kv heads, C, D] twice,
                                               bool [1, 1, S, C]; attribute ``scale``

Attributes of the first two: ``type`` (a low-bit type), ``n`` and ``k`` (codes are [N, K]),
``site`` (a name).
Each code is one byte; scales and zero points are those of ``ladder.ir.dialect``. If TVM legalizes
an operator by itself, it becomes the float kernel, which defines its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tvm
from tvm import relax

from ladder.ir.dtype import DType
from ladder.plugin.lowering import legalized, legalized_operator
from ladder.plugin.operator_names import ATTENTION, GATHER, MATMUL


@cache
def register() -> None:
    """Register the operators with TVM, once."""
    _register(MATMUL, "x @ dequantize(weight).T", _infer_low_bit, legalized)
    _register(GATHER, "dequantize(weight)[ids]", _infer_low_bit, legalized)
    _register(ATTENTION, "softmax(scale q k^T, masked) v", _infer_attention, legalized_operator)


Infer = Callable[[Any, Any], Any]


def _register(name: str, what: str, infer: Infer, legalize: Infer) -> None:
    tvm.ir._ffi_api.RegisterOp(name, what)
    attributes = {"FInferType": infer, "FPurity": True, "FLegalize": legalize}
    for key, value in attributes.items():
        tvm.ir.register_op_attr(name, key, value)


def low_bit(
    op: str, data: Any, weight: Sequence[Any], dtype: DType, n: int, k: int, site: str
) -> Any:
    """A call of ``MATMUL`` or ``GATHER``; ``weight`` in the dialect's order."""
    register()
    attrs = tvm.ir.make_node("ir.DictAttrs", type=str(dtype), n=n, k=k, site=site)
    return relax.Call(tvm.ir.Op.get(op), [data, *weight], attrs)


def attention(parts: Sequence[Any], mask: Any, scale: float) -> Any:
    """A call of ``ATTENTION``; ``parts`` are q, keys and values."""
    register()
    attrs = tvm.ir.make_node("ir.DictAttrs", scale=scale)
    return relax.Call(tvm.ir.Op.get(ATTENTION), [*parts, mask], attrs)


def _infer_low_bit(call: Any, _builder: Any) -> Any:
    data, attrs = call.args[0].ty, call.attrs
    dims = list(data.shape)
    if call.op.name == MATMUL:
        shape = [*dims[:-1], int(attrs["n"])]
    else:
        shape = [*dims, int(attrs["k"])]
    return relax.TensorType(shape, "float32")


def _infer_attention(call: Any, _builder: Any) -> Any:
    return call.args[0].ty
