"""One operator of the dialect under ONNX Runtime, and random products to run it on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect, numerics
from ladder.ir.dtype import FLOAT_ZERO, SCALES, DType
from ladder.ir.verify import verify
from ladder.reference import Reference

TOLERANCE = 1e-6
N, M = 13, 5
TENSOR_SCALE = np.float32(0.37)


def run(
    op: str,
    overload: str,
    inputs: Sequence[np.ndarray | None],
    attributes: Sequence[ir.Attr] = (),
) -> list[np.ndarray]:
    """Run one operator of the dialect on constants, by the body of its function."""
    values: dict[int, ir.Value] = {}
    for i, array in enumerate(inputs):
        if array is None:
            continue
        tensor = ir.Tensor(array, name=f"i{i}")
        kind = ir.TensorType(tensor.dtype)
        shape = ir.Shape(array.shape)
        values[i] = ir.Value(name=f"i{i}", type=kind, shape=shape, const_value=tensor)
    outputs = [ir.Value(name=f"o{i}") for i in range(dialect.OUTPUTS[op])]
    operands = [values.get(i) for i in range(len(inputs))]
    node = dialect.node(op, overload, operands, outputs, attributes)
    opsets = {"": dialect.OPSET, dialect.DOMAIN: dialect.VERSION}
    graph = ir.Graph(
        [],
        outputs,
        nodes=[node],
        initializers=list(values.values()),
        opset_imports=opsets,
        name="g",
    )
    model = ir.Model(graph, ir_version=12)
    dialect.install(model)
    assert verify(model) is None, verify(model)
    # ONNX Runtime has no Shape of 2- and 4-bit tensors, but its constant folding removes them.
    return list(Reference(model, threads=1).run({}).values())


@dataclass(frozen=True)
class Case:
    """A random product of a type: x [M, K], codes [N, K] in the element's own range."""

    dtype: DType
    x: numerics.F32
    codes: np.ndarray
    scale: numerics.F32
    zero: np.ndarray | None

    @staticmethod
    def of(text: str) -> Case:
        dtype, rng = DType.parse(text), np.random.default_rng(zlib.crc32(text.encode()))
        k = 700 if dtype.group == 512 else 75
        element, shape = dtype.element, dtype.scale_shape(N, k)
        used = np.flatnonzero(np.isfinite(element.values))
        zero = rng.integers(0, 1 << element.bits, shape) if dtype.zero_point else None
        if zero is not None and dtype.float_zero:
            zero = (zero + rng.random(shape)).astype(dtype.zero_kind)
        x = rng.standard_normal((M, k)).astype(np.float32)
        x[0, : dtype.block] = 0
        codes = element.from_unsigned(rng.choice(used, (N, k)))
        scale = rng.random(shape).astype(np.float32).astype(SCALES[dtype.scale])
        return Case(dtype, x, codes, scale, zero)

    @property
    def operands(self) -> list[np.ndarray]:
        kind = self.dtype.element.onnx.numpy()
        zero_kind = self.dtype.zero_kind if self.dtype.float_zero else kind
        zero = [] if self.zero is None else [self.zero.astype(zero_kind)]
        factor = [np.array(TENSOR_SCALE)] if self.dtype.tensor_scale else []
        return [self.codes.astype(kind), self.scale, *zero, *factor]

    @property
    def unsigned(self) -> numerics.U8:
        return self.dtype.element.to_unsigned(self.codes)

    def by_block(self, values: np.ndarray) -> np.ndarray:
        """Row values -> [N, B]."""
        blocks = np.arange(-(-self.x.shape[1] // self.dtype.block))
        group = blocks * self.dtype.block // self.dtype.group_size(self.x.shape[1])
        wide: np.ndarray = np.broadcast_to(values, (N, values.shape[1]))[:, group]
        return wide

    @property
    def factor(self) -> np.float32:
        return TENSOR_SCALE if self.dtype.tensor_scale else np.float32(1)

    @property
    def block_scale(self) -> numerics.F32:
        unit = self.dtype.levels.unit if self.dtype.levels else np.float32(1)
        return self.by_block(numerics.stored_scale(self.scale, self.factor * unit))

    @property
    def zeros(self) -> numerics.I32 | numerics.F32:
        if self.dtype.zero == FLOAT_ZERO:
            assert self.zero is not None
            return self.by_block(self.zero).astype(np.float32)
        offset = np.full((1, self.scale.shape[1]), self.dtype.element.offset)
        stored = offset if self.zero is None or self.dtype.minimum else self.zero
        return self.by_block(stored).astype(np.int32)

    def shift(self, total: numerics.I32, doubled: bool = False) -> numerics.F32 | None:
        """What a minimum adds to the scaled sums."""
        if self.zero is None or not self.dtype.minimum:
            return None
        minimum = self.by_block(self.zero).astype(np.float32)
        return numerics.shift_of_minimum(minimum, total, doubled)

    @property
    def weight(self) -> np.ndarray:
        """The dequantized weight [N, K], in float64."""
        k, shape = self.x.shape[1], (N, self.scale.shape[1])
        group = np.arange(k) // self.dtype.group_size(k)
        scale = np.broadcast_to(self.scale.astype(np.float64) * self.factor, shape)[:, group]
        stored = np.zeros((1, 1)) if self.zero is None else self.zero
        zero = np.broadcast_to(stored, shape)[:, group].astype(np.float64)
        values = self.dtype.element.values[self.unsigned]
        weight: np.ndarray = (
            values * scale + zero if self.dtype.minimum else (values - zero) * scale
        )
        return weight


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.shape == (1, *wanted.shape)
    assert np.abs(got[0] - wanted).max() <= TOLERANCE * np.abs(wanted).max()
