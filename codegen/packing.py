"""Packs weights for kernels, each once, before a graph is translated.

``pack_graph`` goes through a lowered graph, fills ``Weights`` and returns the names that the
translation looks up. ``kernels.signature`` has the operands of each kernel in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ladder.codegen.kernels.signature import present, weight_operands
from ladder.codegen.layout import Packing, pack_codes, pack_rows
from ladder.codegen.mux_layout import AuxLayout
from ladder.ir import dialect, mux_bodies
from ladder.ir.activation import QUANTIZED, STATIC
from ladder.ir.blocks import reads
from ladder.ir.dtype import DType
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.names import named, numbered
from ladder.ir.scale import SCALE_TYPES
from ladder.ir.shapes import static_shape

CONSTANT_ELEMENTS = 64  # smaller ones (shapes, axes, scalars) are constants of the function


class Reader(NamedTuple):
    """A dialect operator that reads a low-bit weight: the weight's first input, and the kernel."""

    place: int
    kernel: str


READERS = {
    "LutGemm": Reader(3, "lut_gemm"),
    "DotGemm": Reader(3, "dot_gemm"),
    "MuxGemm": Reader(5, "dot_gemm"),
    "LowBitGather": Reader(1, "gather"),
    "LowBitMatMul": Reader(1, "float_gemm"),
    "ExpertMatMul": Reader(2, "expert_gemm"),
}


def reader_of(node: ir.Node) -> Reader | None:
    """The reader of a node that has a low-bit weight; None for other nodes."""
    return READERS.get(node.op_type) if node.domain == dialect.DOMAIN else None


def weight_inputs(node: ir.Node) -> list[ir.Value]:
    """The low-bit weight of a node that has one: codes, scale[, zero point][, tensor scale]."""
    place, count = READERS[node.op_type].place, dialect.weight_operands(dialect.weight_type(node))
    values = node.inputs[place : place + count]
    return [value for value in values if value is not None]


def book_digits(dtype: DType) -> np.ndarray:
    """The digits of a code book for every code of its bits: uint8 [D, 2^bits]."""
    assert dtype.levels is not None
    digits = dtype.levels.digits
    out = np.full((len(digits), 1 << dtype.bits), DIGIT_OFFSET, np.uint8)
    out[:, : digits.shape[1]] = digits
    return out


def book_values(dtype: DType) -> np.ndarray:
    """The values of a code book in its units, 0 where a code is unused: float32 [2^bits]."""
    assert dtype.levels is not None
    out = np.zeros(1 << dtype.bits, np.float32)
    out[: len(dtype.element.book)] = np.nan_to_num(dtype.element.values, nan=0.0)
    values: np.ndarray = out / dtype.levels.unit
    return values


def stored_bits(values: np.ndarray, kind: str) -> np.ndarray:
    """Scales or float zero points as kernels read them: float32, or raw bits."""
    bits: np.ndarray = np.ascontiguousarray(values).view(SCALE_TYPES[kind].bits_type)
    return bits


def scale_factor(dtype: DType, tensor_scale: np.ndarray | None = None) -> np.ndarray:
    """The factor of every stored scale: a code book's unit times the tensor's own scale, [1]."""
    unit = dtype.levels.unit if dtype.levels else np.float32(1)
    own = np.float32(1) if tensor_scale is None else tensor_scale.astype(np.float32).reshape(())
    return np.array([unit * own], np.float32)


@dataclass(frozen=True)
class StoredWeight:
    """A weight as the dialect stores it: ``parts`` are its operands there, in order."""

    dtype: DType
    parts: Sequence[np.ndarray]
    outliers: AuxLayout | None = None

    def operand(self, name: str) -> np.ndarray:
        """The operand of a kernel by its name in ``kernels.signature``."""
        array: np.ndarray = getattr(self, f"_{name}")()
        return array

    def _planes(self) -> np.ndarray:
        packing, codes = Packing.of(self.dtype), self.dtype.element.to_unsigned(self.parts[0])
        packed = pack_codes if self.outliers is None else self.outliers.pack
        return packed(codes, packing)

    def _digits(self) -> np.ndarray:
        return book_digits(self.dtype)

    def _values(self) -> np.ndarray:
        return book_values(self.dtype)

    def _w_scale(self) -> np.ndarray:
        return self._rows(stored_bits(self.parts[1], self.dtype.scale))

    def _zero(self) -> np.ndarray:
        zero, as_bits = self.parts[2], Packing.of(self.dtype).zero_type != "uint8"
        return self._rows(stored_bits(zero, self.dtype.scale) if as_bits else zero.astype(np.uint8))

    def _rows(self, values: np.ndarray) -> np.ndarray:
        rows: np.ndarray = pack_rows(values, self.dtype, *self.parts[0].shape)
        return rows

    def _factor(self) -> np.ndarray:
        return scale_factor(self.dtype, self.parts[-1] if self.dtype.tensor_scale else None)

    def _starts(self) -> np.ndarray:
        assert self.outliers is not None
        return self.outliers.starts

    def _numbers(self) -> np.ndarray:
        assert self.outliers is not None
        return self.outliers.numbers


@dataclass
class Weights:
    """The artifact's tensors by name. Kernels find them by the names that packing returns.

    ``others`` are the names of a graph's own values, which packed tensors may not have.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def low_bit(self, node: ir.Node, dtype: DType) -> list[str]:
        """Pack the weight of a dialect node; returns its operands' names in a kernel's order."""
        layout, values = mux_layout_of(node), weight_inputs(node)
        packing = Packing.of(dtype, mux=layout is not None)
        order = [o.name for o in present(weight_operands(READERS[node.op_type].kernel, packing))]
        named = _names(node, values[0], dtype, layout)
        names = {operand: numbered(named[operand], self.others) for operand in order}
        missing = [operand for operand, name in names.items() if name not in self.arrays]
        if missing:
            stored = StoredWeight(dtype, [_numpy(value) for value in values], layout)
            self.arrays |= {names[operand]: stored.operand(operand) for operand in missing}
        return list(names.values())

    def activation_outliers(self, node: ir.Node) -> list[str]:
        """The names of the arrays that a kernel reads for the outliers of an activation."""
        layout = mux_layout_of(node)
        assert layout is not None
        arrays = {"small": layout.small, "table": layout.table}
        base = _outlier_name(node, layout)
        names = [numbered(f"{base}.{part}", self.others) for part in arrays]
        for name, array in zip(names, arrays.values(), strict=True):
            self.arrays.setdefault(name, array)
        return names

    def plain(self, value: ir.Value) -> str:
        """Add a weight that is not packed."""
        assert value.name
        if value.name not in self.arrays:
            self.arrays[value.name] = np.ascontiguousarray(_numpy(value))
        return value.name

    @property
    def size_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays.values())


def _names(
    node: ir.Node, codes: ir.Value, dtype: DType, layout: AuxLayout | None
) -> dict[str, str]:
    """Operand -> name of its array. All weights of a type share one code book."""
    assert codes.name
    base = codes.name.removesuffix(".codes")
    names = {part: f"type.{dtype.name}.{part}" for part in ("digits", "values")}
    rows = {"w_scale": "row_scale", "zero": "row_zero", "factor": "factor"}
    names |= {operand: f"{base}.{part}" for operand, part in rows.items()}
    if layout is None:
        return {**names, "planes": f"{base}.planes"}
    outliers = {part: f"{_outlier_name(node, layout)}.{part}" for part in ("starts", "numbers")}
    return {**names, **outliers, "planes": f"{base}.{outlier_channels(node).name}.planes"}


def _outlier_name(node: ir.Node, layout: AuxLayout) -> str:
    return f"{outlier_channels(node).name}.{layout.mux}.k{layout.block}.u{layout.unit}"


@dataclass
class PackedGraph:
    """The arrays that a graph's kernels read, by name.

    ``operands`` are those of nodes with a low-bit weight or with outliers, in their kernel's order.
    ``replaced`` values of the IR are no longer read; ``plain`` ones still are, each as the array
    of its name. ``order`` has every array once, in the order in which nodes first read them.
    """

    operands: dict[ir.Node, list[str]] = field(default_factory=dict)
    replaced: set[ir.Value] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)


def pack_graph(model: ir.Model, weights: Weights) -> PackedGraph:
    """Pack all weights of the graph into ``weights``, except those that are inputs."""
    packed = PackedGraph(replaced={v for node in model.graph for v in _replaced(node)})
    weights.others.update(item.name for item in named(model) if item.name)
    large, order = _large_constants(model) - packed.replaced, dict[str, None]()
    for node in model.graph:
        names = _pack_node(node, weights)
        if names:
            packed.operands[node] = names
        plain = [weights.plain(v) for v in _once(reads(node)) if v in large]
        packed.plain.update(plain)
        order.update(dict.fromkeys([*names, *plain]))
    packed.order = list(order)
    return packed


def _replaced(node: ir.Node) -> list[ir.Value]:
    weight = weight_inputs(node) if reader_of(node) is not None else []
    muxed = node.domain == dialect.DOMAIN and node.op_type in ("MuxActivation", "MuxGemm")
    return [*weight, outlier_channels(node)] if muxed else weight


def _large_constants(model: ir.Model) -> set[ir.Value]:
    tensors = ((v, v.const_value) for v in model.graph.initializers.values())
    return {v for v, tensor in tensors if tensor is not None and tensor.size > CONSTANT_ELEMENTS}


def _pack_node(node: ir.Node, weights: Weights) -> list[str]:
    if node.domain == dialect.DOMAIN and node.op_type == "MuxActivation":
        return weights.activation_outliers(node)
    if reader_of(node) is None or any(v.const_value is None for v in weight_inputs(node)):
        return []
    return weights.low_bit(node, dialect.weight_type(node))


def _once(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return list(dict.fromkeys(value for value in values if value is not None))


def mux_layout_of(node: ir.Node) -> AuxLayout | None:
    """The places of the outliers of a muxed node; all nodes that read one activation agree."""
    if node.op_type == "MuxGemm":
        codes = node.inputs[0]
        activation = codes.producer() if codes is not None else None
        assert activation is not None
        return mux_layout_of(activation)
    if node.op_type != "MuxActivation":
        return None
    _mode, mux, block = mux_bodies.parse_activation(node.overload)
    readers = [use.node for use in node.outputs[0].uses()]
    unit = max(dialect.weight_type(reader).element.storage.unit_chunks for reader in readers)
    shape = static_shape(weight_inputs(readers[0])[0])
    assert shape is not None
    return AuxLayout.of(_numpy(outlier_channels(node)), shape[1], block, mux, unit)


def outlier_channels(node: ir.Node) -> ir.Value:
    """The constant that names the outlier channels of a muxed node."""
    if node.op_type == "MuxGemm":
        channels = node.inputs[4]
    else:
        mode, _mux, _block = mux_bodies.parse_activation(node.overload)
        static = QUANTIZED[mode].granularity == STATIC
        channels = node.inputs[len(node.inputs) - 1 - static]
    assert channels is not None
    return channels


def _numpy(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()
