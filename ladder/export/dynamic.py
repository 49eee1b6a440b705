"""Products of activations that are rounded at run time, in the patterns that ONNX Runtime fuses.

Its product of unsigned activations and signed weights is several times faster than that of two
signed ones. So codes of a symmetric mode are stored as bytes with the zero point 128: the integers
that are multiplied, and their sums, are those of the mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ladder.export.decode import per_row
from ladder.export.emit import Emitter
from ladder.export.weights import (
    Weight,
    drop_weight,
    find_weights,
    high_rung_nodes,
    original_op,
    replace_node,
)
from ladder.ir import facts
from ladder.ir.activation import (
    QUANTIZED,
    TENSOR,
    TOKEN,
    UINT8_TENSOR,
    WITH_ZERO_POINT,
    fits_int32,
)
from ladder.ir.dtype import DType
from ladder.ir.facts import Muxing
from ladder.ir.names import Names
from ladder.ir.numerics import SMALLEST_SCALE
from ladder.ir.site import SITE_KEY

FORM = "DynamicQuantizeLinear, MatMulInteger"
SYMMETRIC_FORM = "QuantizeLinear, MatMulInteger"
SAFE_BITS = 7  # of weights: two products with bytes fit the 16-bit sums of CPUs without VNNI
MIDDLE = 128  # the byte of the code 0 of a symmetric mode
INT32 = ir.DataType.INT32
LEAST_OPSET = 18  # Reduce operators take axes as inputs


def refuse(mode: str, dtype: DType, k: int) -> str | None:
    """Why a product over this type is not written as one fused integer product, or None."""
    if not whole_rows(dtype, k):
        return f"{dtype} has no signed integers with one scale per out feature"
    if mode == UINT8_TENSOR:
        return None
    kind = QUANTIZED.get(mode)
    if kind is None or kind.granularity not in (TENSOR, TOKEN):
        return f"{mode} is not one scale per token or tensor"
    return None if fits_int32(mode, dtype, k) else "its sums could overflow an int32"


def whole_rows(dtype: DType, k: int) -> bool:
    """Whether a weight is signed integers of up to 8 bits with one scale along K."""
    plain = not dtype.element.book and dtype.element.low < 0 and not dtype.zero_point
    return plain and per_row(dtype, k) and not dtype.tensor_scale


def form(mode: str) -> str:
    """The operators, as text for reports."""
    return FORM if mode in WITH_ZERO_POINT else SYMMETRIC_FORM


@dataclass(frozen=True)
class Codes:
    """A rounded activation: x is about (q - zero) * scale; the scale is [] or one per token."""

    q: ir.Value
    scale: ir.Value
    zero: ir.Value


def write_products(model: ir.Model, mode: str, opset: int) -> None:
    """Rewrite the products that ``refuse`` does not refuse and that have no outliers.

    %y = LowBitMatMul(%x, %w...)
      -->  %q, %s, %z = DynamicQuantizeLinear(%x)
           %y = Mul(Cast(MatMulInteger(%q, %codes, %z)), Mul(%s, %scale))

    A symmetric mode has %s = ReduceMax(Abs(%x)) / levels and %q = QuantizeLinear(%x * (1 / %s)).
    """
    muxed = facts.get(model, Muxing) or Muxing()
    weights = {id(weight.codes): weight for weight in find_weights(model)}
    writer = _Writer(Names(model), mode, opset)
    for node in list(high_rung_nodes(model)):
        weight = weights[id(node.inputs[1])]
        product = original_op(node) in ("MatMul", "Gemm")
        if not product or node.metadata_props.get(SITE_KEY, "") in muxed.sites:
            continue
        if refuse(mode, weight.dtype, weight.shape[1]) is None:
            writer.write(replace(weight, users=[node]))
    for weight in weights.values():
        drop_weight(weight)


class _Writer:
    """Writes products in the order of the graph; those of one activation share its codes."""

    def __init__(self, names: Names, mode: str, opset: int) -> None:
        self._names, self._mode, self._opset = names, mode, opset
        self._codes: dict[tuple[int, int], Codes] = {}
        self._weights: dict[int, tuple[list[ir.Value], ir.Value]] = {}

    def write(self, weight: Weight) -> None:
        """Write the product of the weight's only user."""
        emit = Emitter(weight, self._names, self._opset)
        node = weight.users[0]
        x = node.inputs[0]
        assert x is not None
        key = (id(x), id(weight.graph))
        if key not in self._codes:
            self._codes[key] = self._rounded(emit, x)
        codes = self._codes[key]
        if id(weight.codes) not in self._weights:
            self._weights[id(weight.codes)] = self._constants(emit)
        values, scale = self._weights[id(weight.codes)]
        shape = None if node.outputs[0].shape is None else list(node.outputs[0].shape)
        operands = [codes.q, values[0], codes.zero, *values[1:]]
        y = emit.node("MatMulInteger", operands, {}, "sums", shape, INT32)
        y = emit.node("Cast", [y], {"to": int(ir.DataType.FLOAT)}, "sums.float", shape)
        if self._granularity == TOKEN:
            y = emit.node("Mul", [y, scale], {}, "by_weight", shape)
            replace_node(node, ir.node("Mul", [y, codes.scale]))
        else:
            both = emit.node("Mul", [codes.scale, scale], {}, "scales", [weight.shape[0]])
            replace_node(node, ir.node("Mul", [y, both]))

    def _constants(self, emit: Emitter) -> tuple[list[ir.Value], ir.Value]:
        """The weight's integers [K, N] with their zero point, if it is not 0; its scales [N].

        A symmetric mode has the integers of kernels on every CPU: weights of 8 bits are bytes.
        """
        codes = np.ascontiguousarray(emit.weight.code_array().T)
        scale = emit.scale("quantized.scale", emit.weight.scale_array()[:, 0])
        if self._mode in WITH_ZERO_POINT or emit.weight.dtype.bits <= SAFE_BITS:
            return [emit.constant("quantized", codes)], scale
        moved = (codes.astype(np.int16) + MIDDLE).astype(np.uint8)
        middle = emit.constant("quantized.zero", np.array(MIDDLE, np.uint8))
        return [emit.constant("quantized", moved), middle], scale

    @property
    def _granularity(self) -> str:
        return TENSOR if self._mode in WITH_ZERO_POINT else QUANTIZED[self._mode].granularity

    def _rounded(self, emit: Emitter, x: ir.Value) -> Codes:
        if self._mode not in WITH_ZERO_POINT:
            return self._symmetric(emit, x)
        q, scale, zero = emit.nodes("DynamicQuantizeLinear", [x], ("q", "q.scale", "q.zero"))
        return Codes(q, scale, zero)

    def _symmetric(self, emit: Emitter, x: ir.Value) -> Codes:
        """As the dialect rounds: x times the reciprocal of the scale, ties to even."""
        kind = QUANTIZED[self._mode]
        dims = None if x.shape is None else list(x.shape)
        size = emit.node("Abs", [x], {}, "q.size", dims)
        if self._granularity == TOKEN:
            axes = [emit.constant("q.axes", np.array([-1], np.int64))]
            one = None if dims is None else [*dims[:-1], 1]
            most = emit.node("ReduceMax", [size, *axes], {"keepdims": 1}, "q.most", one)
        else:
            one = []
            most = emit.node("ReduceMax", [size], {"keepdims": 0}, "q.most", one)
        levels = emit.constant("q.levels", np.array(kind.levels, np.float32))
        least = emit.constant("q.least", np.array(SMALLEST_SCALE, np.float32))
        unit = emit.constant("q.unit", np.array(1, np.float32))
        zero = emit.constant("q.zero", np.array(MIDDLE, np.uint8))
        scale = emit.node("Div", [most, levels], {}, "q.raw", one)
        scale = emit.node("Max", [scale, least], {}, "q.scale", one)
        inverse = emit.node("Reciprocal", [scale], {}, "q.inverse", one)
        value = emit.node("Mul", [x, inverse], {}, "q.value", dims)
        q = emit.node("QuantizeLinear", [value, unit, zero], {}, "q", dims, ir.DataType.UINT8)
        return Codes(q, scale, zero)
