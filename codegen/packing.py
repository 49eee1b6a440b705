"""Weights as kernels want them: each low-bit weight packed once, however many nodes read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ladder.codegen.layout import STORED, Packing, pack_codes, pack_rows
from ladder.codegen.mux_layout import AuxLayout
from ladder.ir import dialect, mux_bodies
from ladder.ir.activation import QUANTIZED, STATIC
from ladder.ir.dtype import DType
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.shapes import static_shape

LOW_BIT_OPERANDS = {
    "LutGemm": 3,
    "DotGemm": 3,
    "MuxGemm": 5,
    "LowBitGather": 1,
    "LowBitMatMul": 1,
}
ON_FLOATS = ("LowBitGather", "LowBitMatMul")  # these read a code book's values, not its digits


def book_digits(dtype: DType) -> np.ndarray:
    """The digits of a code book for every code that fits its bits: uint8 [D, 2^bits]."""
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
    bits: np.ndarray = np.ascontiguousarray(values).view(STORED[kind])
    return bits


def scale_factor(dtype: DType, tensor_scale: np.ndarray | None = None) -> np.ndarray:
    """What multiplies every stored scale: a code book's unit times the tensor's own scale, [1]."""
    unit = dtype.levels.unit if dtype.levels else np.float32(1)
    own = np.float32(1) if tensor_scale is None else tensor_scale.astype(np.float32).reshape(())
    return np.array([unit * own], np.float32)


@dataclass
class Weights:
    """The artifact's tensors by name. Kernels find them by the names that ``low_bit`` returns."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def low_bit(self, node: ir.Node, dtype: DType) -> list[str]:
        """Pack the weight operands of a dialect node; returns their names in a kernel's order."""
        packing = Packing.of(dtype)
        place = LOW_BIT_OPERANDS[node.op_type]
        codes, scale, *rest = node.inputs[place : place + dialect.weight_operands(dtype)]
        assert codes is not None and scale is not None and codes.name
        zero = rest[0] if packing.zero else None
        tensor_scale = rest[-1] if dtype.tensor_scale else None
        base = codes.name.removesuffix(".codes")
        layout = mux_layout_of(node)
        names = [
            f"{base}.planes" if layout is None else f"{base}.{outlier_channels(node).name}.planes"
        ]
        if packing.digits:
            names.append(self._book(dtype, "values" if node.op_type in ON_FLOATS else "digits"))
        names.append(f"{base}.row_scale")
        if zero is not None:
            names.append(f"{base}.row_zero")
        if packing.factor:
            names.append(f"{base}.factor")
            own = None if tensor_scale is None else _numpy(tensor_scale)
            self.arrays.setdefault(names[-1], scale_factor(dtype, own))
        if names[0] not in self.arrays:
            u = dtype.element.to_unsigned(_numpy(codes))
            self.arrays[names[0]] = (
                pack_codes(u, packing) if layout is None else layout.pack(u, packing)
            )
        if f"{base}.row_scale" not in self.arrays:
            self._pack_rows(base, codes, scale, zero, dtype)
        return names if layout is None else [*names, *self.outliers(node, ("starts", "numbers"))]

    def outliers(self, node: ir.Node, parts: tuple[str, ...]) -> list[str]:
        """What kernels are told of a muxed node's outliers (``AuxLayout``), by these parts."""
        layout = mux_layout_of(node)
        assert layout is not None
        base = f"{outlier_channels(node).name}.{layout.mux}.k{layout.block}.u{layout.unit}"
        for part in parts:
            self.arrays.setdefault(f"{base}.{part}", getattr(layout, part))
        return [f"{base}.{part}" for part in parts]

    def _book(self, dtype: DType, part: str) -> str:
        """The code book of an element, one for all weights of its type."""
        name = f"type.{dtype.name}.{part}"
        if name not in self.arrays:
            make = book_values if part == "values" else book_digits
            self.arrays[name] = make(dtype)
        return name

    def _pack_rows(
        self, base: str, codes: ir.Value, scale: ir.Value, zero: ir.Value | None, dtype: DType
    ) -> None:
        packing, (n, k) = Packing.of(dtype), _numpy(codes).shape
        rows = stored_bits(_numpy(scale), packing.scale)
        self.arrays[f"{base}.row_scale"] = pack_rows(rows, dtype, n, k)
        if zero is not None:
            kept = _numpy(zero)
            as_bits = packing.zero_type != "uint8"
            kept = stored_bits(kept, packing.scale) if as_bits else kept.astype(np.uint8)
            self.arrays[f"{base}.row_zero"] = pack_rows(kept, dtype, n, k)

    def plain(self, value: ir.Value) -> str:
        """A weight that stays as it is."""
        assert value.name
        if value.name not in self.arrays:
            self.arrays[value.name] = np.ascontiguousarray(_numpy(value))
        return value.name

    @property
    def size_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays.values())


def mux_layout_of(node: ir.Node) -> AuxLayout | None:
    """Where the outliers of a muxed node go; all that read one activation agree on it."""
    if node.op_type == "MuxGemm":
        codes = node.inputs[0]
        activation = codes.producer() if codes is not None else None
        assert activation is not None
        return mux_layout_of(activation)
    if node.op_type != "MuxActivation":
        return None
    _mode, mux, block = mux_bodies.parse_activation(node.overload)
    readers = [use.node for use in node.outputs[0].uses()]
    trits = any(dialect.weight_type(reader).element.trits for reader in readers)
    shape = static_shape(readers[0].inputs[LOW_BIT_OPERANDS["MuxGemm"]])
    assert shape is not None
    return AuxLayout.of(_numpy(outlier_channels(node)), shape[1], block, mux, trits)


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
