"""Models of the dialect's high-level operators with random codes, and their results in float64."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from small_graphs import graph, random

from ladder.ir import dialect
from ladder.ir.dtype import SCALES, DType
from ladder.ir.site import OP_KEY

TENSOR_SCALE = np.float32(0.37)
BIAS = random(64, seed=9)
TEXTS = {
    "MatMul": "g (float[2, M, {k}] x) => (float[2, M, {n}] y) {{ y = Identity(x) }}",
    "Gemm": "g (float[M, {k}] x) => (float[M, {n}] y) {{ p = Identity(x) y = Add(p, b) }}",
    "Gather": "g (int64[T] x) => (float[T, {k}] y) {{ y = Identity(x) }}",
}


@dataclass(frozen=True)
class Operands:
    """Random operands of a type for an [N, K] weight."""

    dtype: DType
    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None

    @staticmethod
    def of(text: str, n: int, k: int) -> Operands:
        dtype, rng = DType.parse(text), np.random.default_rng(zlib.crc32(text.encode()))
        element, shape = dtype.element, dtype.scale_shape(n, k)
        used = np.flatnonzero(np.isfinite(element.values))
        codes = element.from_unsigned(rng.choice(used, (n, k)))
        scale = (rng.random(shape) + 0.1).astype(np.float32).astype(SCALES[dtype.scale])
        zero = rng.integers(0, 1 << element.bits, shape) if dtype.zero_point else None
        if zero is not None and dtype.float_zero:
            zero = (zero + rng.random(shape)).astype(dtype.zero_kind)
        return Operands(dtype, codes, scale, zero)

    def arrays(self) -> dict[str, np.ndarray]:
        """The dialect's operands after the first, in order."""
        kind = self.dtype.element.onnx.numpy()
        found = {"codes": self.codes.astype(kind), "scale": self.scale}
        if self.zero is not None:
            floats = self.dtype.float_zero
            found["zero"] = self.zero.astype(self.dtype.zero_kind if floats else kind)
        if self.dtype.tensor_scale:
            found["tensor_scale"] = np.array(TENSOR_SCALE)
        return found

    def weight(self) -> np.ndarray:
        """Decoded [N, K], float64."""
        element, k = self.dtype.element, self.codes.shape[1]
        group = np.arange(k) // self.dtype.group_size(k)
        factor = TENSOR_SCALE if self.dtype.tensor_scale else 1.0
        values = element.values[element.to_unsigned(self.codes)].astype(np.float64)
        zero = 0.0 if self.zero is None else self.zero.astype(np.float64)[:, group]
        scale = (self.scale.astype(np.float64) * factor)[:, group]
        decoded: np.ndarray = (
            values * scale + zero if self.dtype.minimum else (values - zero) * scale
        )
        return decoded


def high_rung(op: str, operands: Operands, opset: int) -> ir.Model:
    """y = MatMul, Gemm (with a bias) or Gather over the weight, as after rounding."""
    n, k = operands.codes.shape
    bias = {"b": BIAS[:n]} if op == "Gemm" else {}
    proto: onnx.ModelProto = graph(TEXTS[op].format(n=n, k=k), bias, opset)
    model: ir.Model = ir.from_proto(proto)
    old = model.graph[0]
    weight = []
    for part, array in operands.arrays().items():
        tensor = ir.Tensor(array, name=f"y.{part}")
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
        weight.append(ir.Value(name=tensor.name, type=kind, shape=shape, const_value=tensor))
        model.graph.register_initializer(weight[-1])
    name = "LowBitGather" if op == "Gather" else "LowBitMatMul"
    out = ir.Value(name=old.outputs[0].name, type=ir.TensorType(ir.DataType.FLOAT))
    new = dialect.node(name, str(operands.dtype), [old.inputs[0], *weight], [out])
    new.name = "y"
    if op == "Gemm":
        new.metadata_props[OP_KEY] = op
        model.graph[1].name = "y.bias"
    else:
        out.shape = old.outputs[0].shape
    model.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(out, replace_graph_outputs=True)
    model.graph.remove(old, safe=True)
    dialect.install(model)
    return model


def case(op: str, operands: Operands) -> tuple[np.ndarray, np.ndarray]:
    """The inputs, and the expected outputs in float64."""
    n, k = operands.codes.shape
    weight = operands.weight()
    if op == "Gather":
        ids = np.array([n - 1, 0, n // 2])
        return ids, weight[ids]
    x = random(3, k, seed=1) if op == "Gemm" else random(2, 3, k, seed=1)
    return x, x @ weight.T + (BIAS[:n] if op == "Gemm" else 0)
