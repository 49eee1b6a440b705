"""Weights as kernels want them: each low-bit weight packed once, however many nodes read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ladder.codegen.layout import Packing, pack_planes, pack_rows
from ladder.ir.dtype import DType

LOW_BIT_OPERANDS = {"LutGemm": 3, "DotGemm": 3, "LowBitGather": 1, "LowBitMatMul": 1}


@dataclass
class Weights:
    """The artifact's tensors by name. Kernels find them by the names that ``low_bit`` returns."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def low_bit(self, node: ir.Node, dtype: DType) -> list[str]:
        """Pack the weight operands of a dialect node; returns the packed tensors' names."""
        codes, scale, *zero = node.inputs[LOW_BIT_OPERANDS[node.op_type] :]
        assert codes is not None and scale is not None and codes.name
        base = codes.name.removesuffix(".codes")
        names = [f"{base}.planes", f"{base}.row_scale", *([f"{base}.row_zero"] if zero else [])]
        if names[0] not in self.arrays:
            self._pack(names, codes, scale, zero[0] if zero else None, dtype)
        return names

    def _pack(
        self,
        names: list[str],
        codes: ir.Value,
        scale: ir.Value,
        zero: ir.Value | None,
        dtype: DType,
    ) -> None:
        packing = Packing.of(dtype)
        u = (_numpy(codes).astype(np.int16) + packing.offset).astype(np.uint8)
        n, k = u.shape
        self.arrays[names[0]] = pack_planes(u, packing.bits, packing.block)
        self.arrays[names[1]] = pack_rows(_numpy(scale), dtype, n, k).astype(np.float32)
        if zero is not None:
            self.arrays[names[2]] = pack_rows(_numpy(zero).astype(np.uint8), dtype, n, k)

    def plain(self, value: ir.Value) -> str:
        """A weight that stays as it is."""
        assert value.name
        if value.name not in self.arrays:
            self.arrays[value.name] = np.ascontiguousarray(_numpy(value))
        return value.name

    @property
    def size_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays.values())


def _numpy(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()
