"""A low-bit weight as standard operators: the nodes that compute w in float32."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ladder.export.emit import Emitter
from ladder.ir.dtype import DType

DEQUANTIZE, BOOK, ARITHMETIC = "DequantizeLinear", "Gather from a code book", "Sub and Mul"
SIGN = 128  # of a byte
BLOCKED_OPSET = 21  # DequantizeLinear with block_size
HALVES, HALVES_OPSET = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16), 19  # results of it
OPSET_OF_BITS = {2: 25, 4: 21, 8: 13}  # DequantizeLinear of packed codes, and of bytes
FLOAT8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)
# ONNX Runtime replaces MatMul(x, DequantizeLinear(w)) by a product with int8 activations (an
# error of 0.5 %) when w is stored [K, N] with groups of these sizes.
FUSED_BLOCKS = (16, 32, 64, 128, 256)


def form(dtype: DType) -> str:
    """The operators that decode a weight of this type, as text for reports."""
    if container(dtype) is not None:
        return DEQUANTIZE
    return BOOK if dtype.element.book else ARITHMETIC


def container(dtype: DType) -> ir.DataType | None:
    """The ONNX type that DequantizeLinear can read the values from, or None.

    A code book that takes a byte per code is stored as a FLOAT8 that has all its values, such as
    fp6. ONNX Runtime 1.31 has no kernel for FLOAT4E2M1.
    """
    element = dtype.element
    if not element.book:
        return None if dtype.float_zero else element.onnx
    if element.onnx.bitwidth < 8:
        return None
    values = np.nan_to_num(element.values)
    for kind in FLOAT8:
        if (values.astype(kind.numpy()).astype(np.float32) == values).all():
            return kind
    return None


def per_row(dtype: DType, k: int) -> bool:
    """Whether DequantizeLinear reads the type with a scale per out feature, in any layout."""
    return container(dtype) is not None and dtype.groups(k) == 1


def least_opset(dtype: DType, kind: ir.DataType = ir.DataType.FLOAT) -> int:
    """The opset that decoding to this float type needs; scale types need none."""
    codes = OPSET_OF_BITS[dtype.element.onnx.bitwidth]
    if kind in HALVES:
        codes = max(codes, HALVES_OPSET)
    return max(codes, BLOCKED_OPSET) if form(dtype) == DEQUANTIZE else codes


def block_size(dtype: DType, k: int) -> int:
    """Weights along K that share a scale, as the attribute of DequantizeLinear."""
    if dtype.groups(k) > 1:
        return dtype.group_size(k)
    return k + 1 if k in FUSED_BLOCKS else k  # one group: any size of K or more means the same


def decoded(emit: Emitter, turned: bool) -> ir.Value:
    """w [N, K], or [K, N] if ``turned``."""
    plain = container(emit.weight.dtype) is not None
    return _dequantized(emit, turned) if plain else _by_arithmetic(emit, turned)


def _dequantized(emit: Emitter, turned: bool) -> ir.Value:
    weight, (codes, kind) = emit.weight, _stored(emit)
    scale, zero = weight.scale_array(), weight.zero_array()
    if turned:
        codes, scale, zero = codes.T, scale.T, None if zero is None else zero.T
    if kind == ir.DataType.INT8 and emit.unsigned:
        codes, zero, kind = _without_sign(codes, scale.shape)
    inputs = [emit.constant("quantized", codes, kind), emit.scale("quantized.scale", scale)]
    if zero is not None:
        inputs.append(emit.constant("quantized.zero", zero, kind))
    blocks = {"axis": 0 if turned else 1, "block_size": block_size(weight.dtype, weight.shape[1])}
    return emit.node("DequantizeLinear", inputs, blocks, "dequantized", codes.shape)


def dequantized_kernel(
    emit: Emitter, taps: Sequence[int], wide: ir.DataType | None = None
) -> ir.Value:
    """A weight [N, K] with channels innermost, as the kernel [N, channels, *taps] of a Conv.

    Only for types with a scale per row: nothing but DequantizeLinear is computed at a call.
    ``wide`` is the type of the stored codes if it is not the narrowest.
    """
    codes, narrow = _stored(emit)
    kind = wide or narrow
    n, k = codes.shape
    by_tap = codes.reshape(n, prod(taps), -1)
    kernel = np.ascontiguousarray(by_tap.transpose(0, 2, 1)).reshape(n, k // prod(taps), *taps)
    zero = emit.weight.zero_array()
    if kind == ir.DataType.INT8 and emit.unsigned and wide is None:
        kernel, zero, kind = _without_sign(kernel, (n, 1))
    inputs = [
        emit.constant("quantized", kernel, kind),
        emit.scale("quantized.scale", emit.weight.scale_array()[:, 0]),
    ]
    if zero is not None:
        inputs.append(emit.constant("quantized.zero", zero[:, 0], kind))
    return emit.node("DequantizeLinear", inputs, {"axis": 0}, "dequantized", kernel.shape)


def _without_sign(
    codes: np.ndarray, scales: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, ir.DataType]:
    """Signed bytes as unsigned ones, and their zero points."""
    return codes.view(np.uint8) ^ SIGN, np.full(scales, SIGN, np.uint8), ir.DataType.UINT8


def dequantized_columns(emit: Emitter, kind: ir.DataType) -> ir.Value:
    """A weight [K, N] with a scale per column, in codes of type ``kind``."""
    codes = np.ascontiguousarray(_stored(emit)[0].T)
    inputs = [
        emit.constant("quantized", codes, kind),
        emit.scale("quantized.scale", emit.weight.scale_array()[:, 0]),
    ]
    return emit.node("DequantizeLinear", inputs, {"axis": 1}, "dequantized", codes.shape)


def _stored(emit: Emitter) -> tuple[np.ndarray, ir.DataType]:
    """What DequantizeLinear reads, [N, K], and its type."""
    element, kind = emit.weight.dtype.element, container(emit.weight.dtype)
    assert kind is not None
    codes = emit.weight.code_array()
    return (element.values.astype(kind.numpy())[codes] if element.book else codes), kind


def _by_arithmetic(emit: Emitter, turned: bool) -> ir.Value:
    """book[codes] * scale, (codes - zero) * scale, or codes * scale + zero where it is a minimum.

    The computation is on [N, groups, group].

    Scales broadcast over their group. If they were repeated for every weight, ONNX Runtime would
    compute that when it loads the file, and keep as many floats as there are weights.
    """
    weight, dtype = emit.weight, emit.weight.dtype
    (n, k), zero = weight.shape, weight.zero_array()
    groups = dtype.groups(k)
    size = dtype.group_size(k) if groups > 1 else k
    axes = (1, 2, 0) if turned else (0, 1, 2)
    codes = np.pad(weight.code_array(), ((0, 0), (0, groups * size - k)))
    codes = codes.reshape(n, groups, size).transpose(axes)
    w, shape = _numbers(emit, codes), codes.shape
    zeros = (
        None if zero is None else emit.as_float("quantized.zero", zero[..., None].transpose(axes))
    )
    if zeros is not None and not dtype.minimum:
        w = emit.node("Sub", [w, zeros], {}, "shifted", shape)
    scale = emit.scale("quantized.scale", weight.scale_array()[..., None].transpose(axes))
    w = emit.node("Mul", [w, scale], {}, "scaled", shape)
    if zeros is not None and dtype.minimum:
        w = emit.node("Add", [w, zeros], {}, "raised", shape)
    return _flat(emit, w, groups * size, turned)


def _numbers(emit: Emitter, codes: np.ndarray) -> ir.Value:
    """The values of the codes before scaling, in the shape of ``codes``.

    A DequantizeLinear with scale 1 converts them. It is the only operator that ONNX Runtime does
    not compute when it loads the file, which would keep the whole weight in float32.
    """
    element = emit.weight.dtype.element
    stored = emit.constant("quantized", codes, element.onnx)
    one = emit.float_constant("one", np.array(1, np.float32))
    numbers = emit.node("DequantizeLinear", [stored, one], {}, "codes.float", codes.shape)
    if not element.book:
        return numbers
    index, kind = {"to": int(ir.DataType.INT32)}, ir.DataType.INT32
    entries = emit.node("Cast", [numbers], index, "entries", codes.shape, kind)
    book = emit.float_constant("book", np.nan_to_num(element.values))
    return emit.node("Gather", [book, entries], {"axis": 0}, "looked_up", codes.shape)


def _flat(emit: Emitter, w: ir.Value, padded: int, turned: bool) -> ir.Value:
    """[N, groups, group] -> [N, K], without the padding of the last group."""
    n, k = emit.weight.shape
    shape = [padded, n] if turned else [n, padded]
    name = "dequantized" if padded == k else "padded"
    flat = emit.reshape(w, name, shape)
    if padded == k:
        return flat
    ends = {"from": [0], "to": [k], "axis": [0 if turned else 1]}
    cut = [emit.constant(f"slice.{part}", np.array(at)) for part, at in ends.items()]
    return emit.node("Slice", [flat, *cut], {}, "dequantized", [k, n] if turned else [n, k])
