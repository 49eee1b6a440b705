"""From operators to kernels: one small function each, by operator name.

A converter returns a Relax expression, or None if TVM's own converter should be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from tvm import relax, s_tir, tirx

from ladder.codegen import fusion
from ladder.codegen.epilogue import BIAS, RESIDUAL, with_addends
from ladder.codegen.kernels import activation, attention, normalize, quantize, sources
from ladder.codegen.kernels.float_gemm import float_gemm
from ladder.codegen.kernels.gather import gather
from ladder.codegen.kernels.library import kernel
from ladder.codegen.kernels.signature import table_entries
from ladder.codegen.layout import PART, Packing, blocks_of, total_chunks
from ladder.errors import LadderError
from ladder.ir import dialect
from ladder.ir.activation import BLOCK, QUANTIZED, parse_overload, table_mode
from ladder.ir.dtype import DType
from ladder.ir.mux_bodies import parse_activation

Attributes = dict[str, Any]
OPAQUE = 8  # TVM's OpPatternKind.kOpaque


class Context:
    """What converters share: the builder, the kernel family, and the kernels made so far."""

    def __init__(self, builder: relax.BlockBuilder, family: str) -> None:
        self.builder = builder
        self.family = family
        self._kernels: dict[str, Any] = {}

    def call(
        self, func: tirx.PrimFunc, args: list[Any], outputs: list[tuple[tuple[int, ...], str]]
    ) -> Any:
        """Emit ``call_tir``; a kernel of the same name is added to the module once."""
        types = [relax.TensorType(shape, dtype) for shape, dtype in outputs]
        call = relax.call_tir(self._var(func), args, types if len(types) > 1 else types[0])
        return self.builder.emit(call)

    def call_in_place(self, func: tirx.PrimFunc, args: list[Any], which: int) -> Any:
        """Emit ``call_tir_inplace`` whose result is argument ``which``."""
        out = relax.TensorType(_shape(args[which]), args[which].ty.dtype.dtype)
        return self.builder.emit(relax.op.call_tir_inplace(self._var(func), args, which, out))

    def _var(self, func: tirx.PrimFunc) -> Any:
        name = str(func.attrs["global_symbol"])
        if name not in self._kernels:
            self._kernels[name] = self.builder.add_func(with_root(func), name)
        return self._kernels[name]

    def flat(self, x: Any, columns: int) -> Any:
        """x [..., columns] as [M, columns]."""
        shape = (prod(_shape(x)[:-1]), columns)
        return x if _shape(x) == shape else self.builder.emit(relax.op.reshape(x, shape))

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return x if _shape(x) == shape else self.builder.emit(relax.op.reshape(x, shape))


def with_root(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A kernel as Relax's passes expect it: in a root block, and marked not to be fused."""
    root = s_tir.SBlock([], [], [], "root", func.body)
    return func.with_body(s_tir.SBlockRealize([], True, root)).with_attr("op_pattern", OPAQUE)


def _shape(x: Any) -> tuple[Any, ...]:
    """The sizes of a value; those that are only known at run time stay expressions."""
    return tuple(int(d) if isinstance(d, tirx.IntImm) else d for d in x.ty.shape)


def _many(m: Any) -> bool:
    """Whether there may be several tokens."""
    return not isinstance(m, int) or m > 1


def _no_kernel(what: str) -> LadderError:
    return LadderError(
        f"{what} has no kernel; 'ladder quantize' writes an ONNX file for ONNX Runtime instead"
    )


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
    return [context.flat(x, _shape(x)[-1]) if len(_shape(x)) > 1 else x for x in inputs]


def quantize_activation(
    context: Context, inputs: list[Any], attrs: Attributes, overload: str
) -> Any:
    """Integer modes. q becomes [M, C, 16], or tables; token axes are flattened."""
    (mode, block), source = parse_overload(overload), source_of(attrs)
    operands = _flat_operands(context, inputs, source)
    m, k = _shape(operands[0])[0], _shape(operands[0])[1] // source.width
    whole = block >= k and QUANTIZED[mode].granularity != BLOCK
    b, c, tables = blocks_of(k, block), _chunks(k, block, whole), bool(attrs.get("tables", 0))
    first = (m, c, *table_entries(mode)) if tables else (m, c, 16)
    func = quantize.quantize_activation(mode, 0 if whole else block, _many(m), source, tables)
    outputs = [(first, "int8"), ((m, b), "float32"), ((m, b), "int32")]
    return context.call(func, operands, outputs)


def mux_activation(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """q is [M, C, 16], with the outliers' digits in its first chunks; it replaces aux too."""
    (mode, mux, block), source = parse_activation(overload), source_of(attrs)
    *read, small, table = inputs
    operands = _flat_operands(context, read, source)
    m, k = _shape(operands[0])[0], _shape(operands[0])[1] // source.width
    whole = block >= k and QUANTIZED[mode].granularity != BLOCK
    b, c = blocks_of(k, block), int(attrs["chunks"])
    func = quantize.quantize_activation(mode, 0 if whole else block, _many(m), source, mux=mux)
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
    m, c, _lanes = _shape(q)
    shape = (m, c, *table_entries(mode))
    func = activation.exact_tables(table_mode(mode), _many(m))
    return context.call(func, [q], [(shape, "int8")])


def precompute_table(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """Mode table8, [M, C, 64]."""
    (_mode, block), source = parse_overload(overload), source_of(attrs)
    operands = _flat_operands(context, inputs, source)
    m, k = _shape(operands[0])[0], _shape(operands[0])[1] // source.width
    b, c = blocks_of(k, block), total_chunks(k, block)
    outputs = [((m, c, 64), "int8"), ((m, b), "float32"), ((m, b), "int32")]
    return context.call(activation.table8(block, _many(m), source), operands, outputs)


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
    m, n, count = _shape(operands[0])[0], int(attrs["n"]), int(attrs.get("addends", 0))
    addends = [operands.pop() for _ in range(count)][::-1]
    shape = (*_shape(x)[:-1], n)
    kinds = {(n,): BIAS, shape: RESIDUAL}
    known = tuple(kinds[_shape(a)] for a in addends if _shape(a) in kinds)
    fused = with_addends(func, known) if count and len(known) == count else None
    if fused is not None:
        flat = [context.flat(a, n) if len(_shape(a)) > 1 else a for a in addends]
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


def expert_matmul(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """Each row of x [M, K] by the expert that it names; the rows of all experts are one weight."""
    chosen, x, *weight, _same = inputs
    func = float_gemm(Packing.of(DType.parse(overload)), experts=True)
    shape = (_shape(x)[0], int(attrs["rows"]))
    ids = context.reshape(chosen, shape[:1])
    return context.call(func, [ids, x, *weight], [(shape, "float32")])


def low_bit_gather(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    packing, k = Packing.of(DType.parse(overload)), int(attrs["k"])
    ids_shape = _shape(inputs[0])
    m = prod(ids_shape)
    ids = context.reshape(inputs[0], (m,))
    rows = context.call(gather(packing, k), [ids, *inputs[1:]], [((m, k), "float32")])
    return context.reshape(rows, (*ids_shape, k))


def rms_normalization(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    shape = _shape(inputs[0])
    if attrs.get("axis", -1) not in (-1, len(shape) - 1) or inputs[0].ty.dtype.dtype != "float32":
        return None
    x = context.flat(inputs[0], shape[-1])
    m = _shape(x)[0]
    func = normalize.rms_norm(float(attrs.get("epsilon", 1e-5)), _many(m))
    return context.reshape(context.call(func, [x, inputs[1]], [((m, shape[-1]), "float32")]), shape)


def rotary_embedding(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """ONNX RotaryEmbedding without position ids, whole head rotated in halves."""
    x, cos, sin, *_rest = [*inputs]
    shape = _shape(x)
    plain = not attrs.get("interleaved", 0) and not attrs.get("rotary_embedding_dim", 0)
    if len(shape) != 4 or shape[0] != 1 or not plain or len(_shape(cos)) != 3:
        raise _no_kernel("RotaryEmbedding with position ids, interleaved or partial,")
    return context.call(
        attention.rotary(shape[1], shape[2], shape[3]), [x, cos, sin], [(shape, "float32")]
    )


def tensor_scatter(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """The cache is written in place, so it must be an input of the graph and one of its states."""
    cache, rows, start = inputs[:3]
    (_b, heads, c, d), s = _shape(cache), _shape(rows)[2]
    if attrs.get("axis", -2) not in (-2, 2) or _b != 1:
        raise _no_kernel("TensorScatter in batches, or on an axis other than the second to last,")
    if isinstance(cache, relax.DataflowVar):
        raise _no_kernel("TensorScatter into a computed value")
    return context.call_in_place(attention.scatter(heads, s, c, d), [cache, rows, start], 0)


def attention_op(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """ONNX Attention of one sequence; without a mask, every key or those up to the query's own."""
    for refused, reason in attention_limits(inputs, attrs):
        if refused:
            raise _no_kernel(f"Attention {reason}")
    q, keys, values, mask = (*inputs, None)[:4]
    shape = _shape(q)
    (_b, heads, s, d), kv = shape, _shape(keys)
    scale = float(attrs.get("scale", d**-0.5))
    if mask is None:
        seen = np.ones((1, 1, s, kv[2]), bool)
        mask = relax.const(np.tril(seen) if attrs.get("is_causal", 0) else seen)
    mask = context.reshape(mask, (1, 1, *_shape(mask)[-2:]))
    func = attention.attention(heads, kv[1], s, kv[2], d, scale)
    return context.call(func, [q, keys, values, mask], [(shape, "float32")])


def attention_limits(inputs: list[Any], attrs: Attributes) -> Iterator[tuple[bool, str]]:
    """What the kernel cannot do, in the order in which it can be looked at; TVM's own is another.

    Attention of ONNX is not the operator of the same name that TVM's frontend converts.
    """
    q, keys, values, mask, *others = (*inputs, None, None, None)
    yield len(_shape(q)) != 4, "of inputs with 3 dimensions"
    yield any(other is not None for other in others), "with past keys or their lengths"
    yield _shape(q)[0] != 1, f"of {_shape(q)[0]} sequences at once"
    size = _shape(q)[3]
    yield size % attention.WIDTH != 0, f"with heads of {size}, no multiple of {attention.WIDTH},"
    yield _shape(values)[3] != size, f"with values of {_shape(values)[3]} and keys of {size}"
    yield bool(attrs.get("softcap", 0)), "with a softcap"
    yield _shape(q)[1] % _shape(keys)[1] != 0, "with heads that do not share keys evenly"
    if mask is not None:
        yield bool(attrs.get("is_causal", 0)), "with a mask and is_causal"
        yield mask.ty.dtype.dtype != "bool", f"with a mask of {mask.ty.dtype.dtype}"
        yield prod(_shape(mask)[:-2]) != 1, "with a mask for each head"
        yield _shape(mask)[-2:] != (_shape(q)[2], _shape(keys)[2]), "with a mask to be broadcast"


def transpose(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """A transpose that only moves axes of size 1 is a reshape, which is free."""
    shape = _shape(inputs[0])
    perm = tuple(attrs.get("perm", range(len(shape))[::-1]))
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return context.reshape(inputs[0], tuple(shape[axis] for axis in perm))


def split(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """A split as slices, which fuse with their readers; TVM's split would copy all parts first."""
    x, sizes = (*inputs, None)[:2]
    if sizes is None:
        return None
    axis, begin, parts = int(attrs.get("axis", 0)), 0, []
    for size in (int(n) for n in sizes.value.numpy()):
        part = relax.op.strided_slice(x, [axis], [begin], [begin + size])
        parts.append(context.builder.emit(part))
        begin += size
    return relax.Tuple(parts)


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
}
