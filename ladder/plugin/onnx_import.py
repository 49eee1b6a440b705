"""TVM's ONNX frontend with the dialect: low-bit weights become low-bit operators of Relax."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import Any

MARKS = frozenset({"DequantizeLinear", "MatMulNBits", "GatherBlockQuantized"})


def extend(frontend: ModuleType) -> None:
    """Let ``from_onnx`` read low-bit weights; graphs without any are imported as before."""
    original, convert_map = frontend.from_onnx, frontend._get_convert_map

    @functools.wraps(original)
    def from_onnx(model: Any, *args: Any, **options: Any) -> Any:
        if not _has_low_bit(model):
            return original(model, *args, **options)
        with warnings.catch_warnings():
            # TVM lets ONNX check the model, which does not know our operators.
            warnings.filterwarnings("ignore", message="(?s).*No Op registered for Low.*")
            return original(_raised(model), *args, **options)

    @functools.wraps(convert_map)
    def with_ours() -> dict[str, Any]:
        return {**convert_map(), **_converters(frontend)}

    frontend.from_onnx = from_onnx  # type: ignore[attr-defined]
    frontend._get_convert_map = with_ours  # type: ignore[attr-defined]


def _has_low_bit(model: Any) -> bool:
    return any(n.op_type in MARKS or n.domain == "ladder" for n in model.graph.node)


def _raised(proto: Any) -> Any:
    """The model with dialect nodes in a form that TVM's importer can read: codes are bytes."""
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from ladder.ir import dialect
    from ladder.plugin.model import as_bytes
    from ladder.plugin.onnx_raise import raise_model

    model = ir.from_proto(proto)
    raise_model(model)
    RemoveUnusedNodesPass()(model)
    codes = set()
    for node in model.graph:
        if node.domain == dialect.DOMAIN and node.op_type in ("LowBitMatMul", "LowBitGather"):
            codes.add(node.inputs[1])
            n, k = node.inputs[1].shape
            for name, value in (("type", node.overload), ("site", str(node.name))):
                node.attributes.add(ir.AttrString(name, value))
            for name, size in (("n", n), ("k", k)):
                node.attributes.add(ir.AttrInt64(name, int(size)))
            node.domain = node.overload = ""
    for value in codes:
        assert value is not None and value.const_value is not None
        tensor = ir.tensor(as_bytes(value.const_value.numpy()), name=value.name)
        value.const_value, value.type = tensor, ir.TensorType(tensor.dtype)
    model.functions.clear()
    return ir.to_proto(model)


@functools.cache
def _converters(frontend: ModuleType) -> dict[str, Any]:
    """Our operators for the importer's table, in its format."""
    from ladder.ir.dtype import DType
    from ladder.plugin import operator_names, operators

    def convert(op: str) -> Any:
        def _impl_v1(cls: Any, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            data, *weight = (x for x in inputs if x is not None)
            dtype, site = DType.parse(attr["type"].decode()), attr["site"].decode()
            return operators.low_bit(op, data, weight, dtype, attr["n"], attr["k"], site)

        return type(op, (frontend.OnnxOpConverter,), {"_impl_v1": classmethod(_impl_v1)})

    return {name: convert(op) for name, op in operator_names.OF_DIALECT.items()}
