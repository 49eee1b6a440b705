"""From operators to kernels: one small function each, by operator name.

A converter returns a Relax expression, or None if TVM's own converter should be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from ladder.codegen import fusion, recurrence
from ladder.codegen.attention import attention_op, rotary_embedding, tensor_scatter
from ladder.codegen.context import (
    Attributes,
    Context,
    is_matrix,
    is_reshape,
    no_kernel,
    several,
    shape_of,
)
from ladder.codegen.epilogue import BIAS, RESIDUAL, with_addends
from ladder.codegen.indices import SOME_EXPERTS, with_checked_indices
from ladder.codegen.kernels import activation, normalize, quantize, sources
from ladder.codegen.kernels.float_gemm import float_gemm
from ladder.codegen.kernels.gather import gather
from ladder.codegen.kernels.indices import grouped
from ladder.codegen.kernels.library import kernel
from ladder.codegen.kernels.signature import table_entries
from ladder.codegen.layout import PART, Packing, blocks_of, total_chunks
from ladder.ir import dialect
from ladder.ir.activation import BLOCK, QUANTIZED, parse_overload, table_mode
from ladder.ir.dtype import DType
from ladder.ir.mux_bodies import parse_activation


def source_of(attrs: Attributes) -> sources.Source:
    """The source of the activation that a fused node quantizes (``ladder.codegen.fusion``)."""
    made: dict[str, Callable[[], sources.Source]] = {
        "": lambda: sources.PLAIN,
        fusion.RMS_NORM: lambda: sources.rms_norm(float(attrs["epsilon"])),
        fusion.GATE: lambda: sources.GATE,
        fusion.GATE_UP: lambda: sources.stacked_gate(gate_first=True),
        fusion.UP_GATE: lambda: sources.stacked_gate(gate_first=False),
    }
    return made[attrs.get("source", b"").decode()]()


def _flat_operands(context: Context, inputs: list[Any], source: sources.Source) -> list[Any]:
    """The operands of a source with flat tokens; x first."""
    return [context.flat(x, shape_of(x)[-1]) if len(shape_of(x)) > 1 else x for x in inputs]


def quantize_activation(
    context: Context, inputs: list[Any], attrs: Attributes, overload: str
) -> Any:
    """Integer modes. q becomes [M, C, 16], or tables; token axes are flattened."""
    (mode, block), source = parse_overload(overload), source_of(attrs)
    operands = _flat_operands(context, inputs, source)
    m, k = shape_of(operands[0])[0], shape_of(operands[0])[1] // source.width
    whole = block >= k and QUANTIZED[mode].granularity != BLOCK
    b, c, tables = blocks_of(k, block), _chunks(k, block, whole), bool(attrs.get("tables", 0))
    first = (m, c, *table_entries(mode)) if tables else (m, c, 16)
    func = quantize.quantize_activation(mode, 0 if whole else block, several(m), source, tables)
    outputs = [(first, "int8"), ((m, b), "float32"), ((m, b), "int32")]
    return context.call(func, operands, outputs)


def mux_activation(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """q is [M, C, 16], with the outliers' digits in its first chunks; it replaces aux too."""
    (mode, mux, block), source = parse_activation(overload), source_of(attrs)
    *read, small, table = inputs
    operands = _flat_operands(context, read, source)
    m, k = shape_of(operands[0])[0], shape_of(operands[0])[1] // source.width
    whole = block >= k and QUANTIZED[mode].granularity != BLOCK
    b, c = blocks_of(k, block), int(attrs["chunks"])
    func = quantize.quantize_activation(mode, 0 if whole else block, several(m), source, mux=mux)
    outputs = [((m, c, 16), "int8"), ((m, b), "float32"), ((m, b), "int32")]
    made = context.call(func, [*operands, small, table], outputs)
    q, scale, total = (context.builder.emit(relax.TupleGetItem(made, i)) for i in range(3))
    return relax.Tuple([q, q, scale, total])


def _chunks(k: int, block: int, whole: bool) -> int:
    return total_chunks(k, PART if whole else block)


def tabulate_activation(context: Context, inputs: list[Any], _: Attributes, overload: str) -> Any:
    """Exact tables, [M, C, 64], or as two planes of bytes, [M, C, 2, 64]."""
    mode, _block = parse_overload(overload)
    return _tables(context, inputs[0], mode)


def _tables(context: Context, q: Any, mode: str) -> Any:
    """The exact tables of codes q [M, C, 16]."""
    m, c, _lanes = shape_of(q)
    shape = (m, c, *table_entries(mode))
    func = activation.exact_tables(table_mode(mode), several(m))
    return context.call(func, [q], [(shape, "int8")])


def precompute_table(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """Mode table8, [M, C, 64]."""
    (_mode, block), source = parse_overload(overload), source_of(attrs)
    operands = _flat_operands(context, inputs, source)
    m, k = shape_of(operands[0])[0], shape_of(operands[0])[1] // source.width
    b, c = blocks_of(k, block), total_chunks(k, block)
    outputs = [((m, c, 64), "int8"), ((m, b), "float32"), ((m, b), "int32")]
    return context.call(activation.table8(block, several(m), source), operands, outputs)


def lut_gemm(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    mode, _, text = overload.partition(":")
    func = kernel("lut_gemm", _packing(text), mode, context.family)
    return _product(context, func, inputs, attrs)


def dot_gemm(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """By dot products or matrix tiles; integer modes share a kernel, as only their codes differ."""
    packing, scheme = _packing(overload), attrs["scheme"].decode()
    func = kernel(f"{scheme}_gemm", packing, "int8", context.family)
    return _product(context, func, inputs, attrs)


def mux_gemm(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """By dot products, or by look-ups in the exact tables of all codes."""
    packing = replace(_packing(overload.partition(":")[2]), mux=True)
    mode, scheme = table_mode(attrs["mode"].decode()), attrs["scheme"].decode()
    if scheme == "lut":
        q, *rest = inputs
        inputs = [_tables(context, q, mode), *rest]
    func = kernel(f"{scheme}_gemm", packing, mode if scheme == "lut" else "int8", context.family)
    return _product(context, func, inputs, attrs)


def _packing(overload: str) -> Packing:
    """The packing of a product's overload."""
    dtype, block = dialect.parse_product(overload)
    return Packing.of(dtype, whole=block != dtype.block)


def _product(context: Context, func: Any, inputs: list[Any], attrs: Attributes) -> Any:
    """Emit a product. The last input is the float activation, whose leading axes the output has.

    The inputs before it are added to the product, by the kernel if their shapes allow it.
    """
    *operands, x = inputs
    m, n, count = shape_of(operands[0])[0], int(attrs["n"]), int(attrs.get("addends", 0))
    addends = [operands.pop() for _ in range(count)][::-1]
    shape = (*shape_of(x)[:-1], n)
    kinds = {(n,): BIAS, shape: RESIDUAL}
    known = tuple(kinds[shape_of(a)] for a in addends if shape_of(a) in kinds)
    fused = with_addends(func, known) if count and len(known) == count else None
    if fused is not None:
        flat = [context.flat(a, n) if len(shape_of(a)) > 1 else a for a in addends]
        return context.reshape(
            context.call(fused, [*operands, *flat], [((m, n), "float32")]), shape
        )
    result = context.reshape(context.call(func, operands, [((m, n), "float32")]), shape)
    for addend in addends:
        result = context.builder.emit(relax.op.add(result, addend))
    return result


def low_bit_matmul(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """Float activations: weights are decoded in the kernel."""
    x, *weight, _same = inputs
    func = float_gemm(Packing.of(DType.parse(overload)))
    return _product(context, func, [context.flat(x, int(attrs["k"])), *weight, x], attrs)


ONE = relax.const(1, "int64")


def expert_matmul(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """Each row of x [M, K] by the expert that it names; the rows of all experts are one weight.

    With ``apart`` the number may be -1: no expert, and no product.
    """
    apart = int(attrs["apart"])
    if apart:
        inputs = [context.builder.emit(relax.op.add(inputs[0], ONE)), *inputs[1:]]
    operator = SOME_EXPERTS if apart else "ladder.ExpertMatMul"
    chosen, x, *weight, _same = with_checked_indices(context, operator, inputs, attrs)
    func = float_gemm(Packing.of(DType.parse(overload)), experts=True)
    shape = (shape_of(x)[0], int(attrs["rows"]))
    ids = context.reshape(chosen, shape[:1])
    order = context.call(
        grouped(int(attrs["n"]) // shape[1] + apart), [ids], [(shape[:1], "int64")]
    )
    if apart:
        ids = context.builder.emit(relax.op.subtract(ids, ONE))
    return context.call(func, [ids, order, x, *weight], [(shape, "float32")])


def low_bit_gather(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    packing, k = Packing.of(DType.parse(overload)), int(attrs["k"])
    ids, *weight = with_checked_indices(context, "ladder.LowBitGather", inputs, attrs)
    ids_shape = shape_of(ids)
    m = prod(ids_shape)
    rows = context.call(
        gather(packing, k), [context.reshape(ids, (m,)), *weight], [((m, k), "float32")]
    )
    return context.reshape(rows, (*ids_shape, k))


def rms_normalization(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    shape = shape_of(inputs[0])
    if attrs.get("axis", -1) not in (-1, len(shape) - 1) or inputs[0].ty.dtype.dtype != "float32":
        return None
    x, scale = context.flat(inputs[0], shape[-1]), inputs[1]
    (m, k), of_rows = shape_of(x), shape_of(scale) != shape[-1:]
    func = normalize.rms_norm(float(attrs.get("epsilon", 1e-5)), several(m))
    weight = relax.const(np.ones(k, np.float32)) if of_rows else scale
    out = context.reshape(context.call(func, [x, weight], [((m, k), "float32")]), shape)
    return relax.op.multiply(out, scale) if of_rows else out


def transpose(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """Those of matrices, and those that only move axes of size 1; others are left to TVM."""
    shape = shape_of(inputs[0])
    axes = tuple(attrs.get("perm", range(len(shape))[::-1]))
    ours = is_reshape(shape, axes) or is_matrix(shape, axes)
    return context.transposed(inputs[0], axes) if ours else None


def split(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """A split as slices, which fuse with their readers; TVM's split would copy all parts first."""
    x, sizes = (*inputs, None)[:2]
    if sizes is None:
        return None
    if not isinstance(sizes, GenericConst):
        raise no_kernel("Split into parts of computed sizes")
    axis, begin, parts = int(attrs.get("axis", 0)), 0, []
    for size in (int(n) for n in sizes.value.numpy()):
        part = relax.op.strided_slice(x, [axis], [begin], [begin + size])
        parts.append(context.builder.emit(part))
        begin += size
    return relax.Tuple(parts)


def equal(context: Context, inputs: list[Any], _attrs: Attributes, _: str) -> Any:
    """LLVM compares no booleans by TVM's way, so they are compared as bytes."""
    kinds = [x.ty.dtype.dtype for x in inputs if isinstance(x.ty, relax.TensorType)]
    if kinds != ["bool", "bool"]:
        return None
    left, right = (context.builder.emit(relax.op.astype(x, "int8")) for x in inputs)
    return relax.op.equal(left, right)


def top_k(_context: Context, _inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """Any order is right where none is asked for; TVM's converter knows the sorted one only."""
    attrs["sorted"] = 1
    return None


def lp_normalization(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """x over its norm along an axis; zeros where the norm is zero."""
    x, axis, emit = inputs[0], int(attrs.get("axis", -1)), context.builder.emit
    if attrs.get("p", 2) == 1:
        size = emit(relax.op.sum(relax.op.abs(x), axis, keepdims=True))
    else:
        size = emit(relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), axis, keepdims=True)))
    one = relax.const(1, size.ty.dtype.dtype)
    whole = relax.op.where(relax.op.equal(size, relax.op.zeros_like(size)), one, size)
    return relax.op.divide(x, whole)


CONVERTERS: dict[str, Callable[[Context, list[Any], Attributes, str], Any]] = {
    "ladder.QuantizeActivation": quantize_activation,
    "ladder.TabulateActivation": tabulate_activation,
    "ladder.PrecomputeTable": precompute_table,
    "ladder.LutGemm": lut_gemm,
    "ladder.DotGemm": dot_gemm,
    "ladder.MuxActivation": mux_activation,
    "ladder.MuxGemm": mux_gemm,
    "ladder.LowBitMatMul": low_bit_matmul,
    "ladder.LowBitGather": low_bit_gather,
    "ladder.ExpertMatMul": expert_matmul,
    "RMSNormalization": rms_normalization,
    "RotaryEmbedding": rotary_embedding,
    "TensorScatter": tensor_scatter,
    "Attention": attention_op,
    "Transpose": transpose,
    "Split": split,
    "Equal": equal,
    "TopK": top_k,
    "LpNormalization": lp_normalization,
    **recurrence.CONVERTERS,
}
