"""The bodies of the dialect's functions under ONNX Runtime equal ``ladder.ir.numerics``."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from ladder.codegen.layout import Packing, pack_codes
from ladder.ir import dialect, numerics
from ladder.ir.activation import QUANTIZED, overload
from ladder.ir.dtype import FLOAT_ZERO, SCALES, DType
from ladder.ir.verify import verify
from ladder.reference import Reference

TYPES = [
    "int2:g64",
    "int3:g20",
    "int4:g32",
    "int4:g512",
    "int4:tensor",
    "int6:row",
    "int7:g18",
    "int8:row",
    "uint2:row:zp",
    "uint2:tensor:zp",
    "uint3:g512:zp",
    "uint4:g32:zp",
    "uint4:row:zp",
    "uint5:g48:zp",
    "uint8:row:zp",
    "int1:g32",
    "uint1:g20:zp",
    "int4:g32:fp16",
    "int8:g32:bf16",
    "uint4:g32:zpf",
    "uint2:row:fp16:zpf",
    "ternary:tensor",
    "ternary2:g64",
]
BOOKS = [
    "nf4:g64",
    "fp4_e2m1:g32:e8m0",
    "fp4_e2m1:g16:e4m3",
    "fp6_e2m3:row",
    "fp6_e3m2:g512",
    "fp8_e4m3:tensor",
    "fp8_e5m2:g30",
]
TOLERANCE = 1e-6
N, M = 13, 5
TENSOR_SCALE = np.float32(0.37)


def run(op: str, overload: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """One operator of the dialect on constants; its function's body does the work."""
    values = []
    for i, array in enumerate(inputs):
        tensor = ir.Tensor(array, name=f"i{i}")
        kind = ir.TensorType(tensor.dtype)
        shape = ir.Shape(array.shape)
        values.append(ir.Value(name=f"i{i}", type=kind, shape=shape, const_value=tensor))
    outputs = [ir.Value(name=f"o{i}") for i in range(dialect.OUTPUTS[op])]
    node = dialect.node(op, overload, values, outputs)
    opsets = {"": dialect.OPSET, dialect.DOMAIN: dialect.VERSION}
    graph = ir.Graph([], outputs, nodes=[node], initializers=values, opset_imports=opsets, name="g")
    model = ir.Model(graph, ir_version=12)
    dialect.install(model)
    assert verify(model) is None
    # ONNX Runtime has no Shape of 2- and 4-bit tensors: its constant folding takes them away.
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
        if zero is not None and dtype.zero == FLOAT_ZERO:
            zero = (zero + rng.random(shape)).astype(dtype.zero_kind)
        x = rng.standard_normal((M, k)).astype(np.float32)
        x[0, : dtype.block] = 0
        codes = element.from_unsigned(rng.choice(used, (N, k)))
        scale = rng.random(shape).astype(np.float32).astype(SCALES[dtype.scale])
        return Case(dtype, x, codes, scale, zero)

    @property
    def operands(self) -> list[np.ndarray]:
        kind = self.dtype.element.onnx.numpy()
        zero_kind = self.dtype.zero_kind if self.dtype.zero == FLOAT_ZERO else kind
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
        return self.by_block(offset if self.zero is None else self.zero).astype(np.int32)

    @property
    def weight(self) -> np.ndarray:
        """Dequantized [N, K], in float64."""
        k, shape = self.x.shape[1], (N, self.scale.shape[1])
        group = np.arange(k) // self.dtype.group_size(k)
        scale = np.broadcast_to(self.scale.astype(np.float64) * self.factor, shape)[:, group]
        stored = np.zeros((1, 1)) if self.zero is None else self.zero
        zero = np.broadcast_to(stored, shape)[:, group].astype(np.float64)
        weight: np.ndarray = (self.dtype.element.values[self.unsigned] - zero) * scale
        return weight


@pytest.fixture(params=TYPES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case.of(request.param)


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.shape == (1, *wanted.shape)
    assert np.abs(got[0] - wanted).max() <= TOLERANCE * np.abs(wanted).max()


@pytest.mark.parametrize("mode", ["int8", "int4", "int2"])
def test_integer_products(case: Case, mode: str) -> None:
    dtype, kind = case.dtype, QUANTIZED[mode]
    block, step = overload(mode, dtype.block), dtype.element.step
    q, scale, total = numerics.quantize_activation(case.x, dtype.block, kind.bits, kind.per_token)
    got = run("QuantizeActivation", block, [case.x[None]])
    for a, b in zip(got, (q, scale, total), strict=True):
        np.testing.assert_array_equal(a[0], b)
    sums = numerics.dot_sums(q, total, case.unsigned, case.zeros, dtype.block, step)
    wanted = numerics.combine(sums, case.block_scale, scale)
    assert_close(run("DotGemm", str(dtype), [*got, *case.operands])[0], wanted)
    (table,) = run("TabulateActivation", block, [got[0]])
    assert_close(run("LutGemm", f"{mode}:{dtype}", [table, *got[1:], *case.operands])[0], wanted)


@pytest.mark.parametrize("text", BOOKS)
def test_code_book_products(text: str) -> None:
    case, levels = Case.of(text), DType.parse(text).levels
    assert levels is not None
    block = case.dtype.block
    q, scale, total = numerics.quantize_activation(case.x, block)
    sums = numerics.book_sums(q, total, case.unsigned, levels.digits, block)
    wanted = numerics.combine(sums, case.block_scale, scale)
    got = run("QuantizeActivation", f"k{block}", [case.x[None]])
    codes, *rest = case.operands
    (digits,) = run("LookUpCodes", text, [codes])
    np.testing.assert_array_equal(digits, levels.digits[:, case.unsigned])
    assert_close(run("DotGemm", text, [*got, digits, *rest])[0], wanted)
    exact = quantized_activation(q, scale, case.x.shape[1], block) @ case.weight.T
    assert np.abs(wanted - exact).max() <= 2e-5 * np.abs(exact).max()


def quantized_activation(q: numerics.I8, scale: numerics.F32, k: int, block: int) -> np.ndarray:
    wide = (q * scale[..., None].astype(np.float64))[..., :block]
    flat: np.ndarray = wide.reshape(len(q), -1)[:, :k]
    return flat


def test_exact_tables_hold_the_sums_of_chosen_codes() -> None:
    q = np.array([[[[1, 10, 100, -128], [3, 0, 0, 0]]]], np.int8).reshape(1, 1, 1, 8)
    (table,) = run("TabulateActivation", "k8", [q])
    assert table.shape == (1, 1, 1, 2, 16)
    assert table[0, 0, 0, 0, [0, 1, 3, 7, 8, 15]].tolist() == [0, 1, 11, 111, -128, -17]
    assert table[0, 0, 0, 1].tolist() == [0, 3] * 8


def test_table8_products(case: Case) -> None:
    dtype = case.dtype
    table, scale, total = numerics.precompute_table(case.x, dtype.block)
    got = run("PrecomputeTable", f"k{dtype.block}", [case.x[None]])
    for a, b in zip(got, (table, scale, total), strict=True):
        np.testing.assert_array_equal(a[0], b)
    indices = numerics.table_indices(case.unsigned, dtype.bits, dtype.block)
    sums = numerics.lut_sums(table, total, indices, case.zeros, dtype.element.step)
    wanted = numerics.combine(sums, case.block_scale, scale)
    assert_close(run("LutGemm", f"table8:{dtype}", [*got, *case.operands])[0], wanted)


@pytest.mark.parametrize("text", [*TYPES, *BOOKS])
def test_high_rung(text: str) -> None:
    case = Case.of(text)
    got = run("LowBitMatMul", text, [case.x[None], *case.operands])[0]
    assert_close(got, (case.x @ case.weight.T).astype(np.float32))
    ids = np.array([[N - 1, 0, 3]])
    rows = run("LowBitGather", text, [ids, *case.operands])[0]
    assert_close(rows, case.weight[ids[0]].astype(np.float32))


@pytest.mark.parametrize("lead", [(), (2,), (2, 1, 3)])
def test_any_leading_axes(lead: tuple[int, ...]) -> None:
    case = Case.of("int4:g32")
    x = np.broadcast_to(case.x[1], (*lead, case.x.shape[1]))
    got = run("QuantizeActivation", "k32", [np.ascontiguousarray(x)])
    out = run("DotGemm", "int4:g32", [*got, *case.operands])[0]
    assert out.shape == (*lead, N)


RUNGS = ["int1:g32", "int3:g20", "uint5:row:zp", "nf4:g64", "int4:g512", "ternary:g20"]


@pytest.mark.parametrize("text", RUNGS)
def test_rungs_lead_to_the_physical_layout_and_back(text: str) -> None:
    case = Case.of(text)
    n, k = case.codes.shape
    overload, packing = f"{text}@{n}x{k}", Packing.of(case.dtype)
    (planes,) = run("SplitPlanes", overload, [case.operands[0]])
    (padded,) = run("PadPlanes", overload, [planes])
    (packed,) = run("PackPlanes", overload, [padded])
    wanted = pack_codes(case.unsigned, packing)
    np.testing.assert_array_equal(packed.view(np.int32)[..., 0], wanted)
    for op, expected in (("UnpackPlanes", padded), ("CropPlanes", planes)):
        (packed,) = run(op, overload, [packed])
        np.testing.assert_array_equal(packed, expected)
    (codes,) = run("JoinPlanes", overload, [packed])
    np.testing.assert_array_equal(codes, case.codes)


def test_install_keeps_exactly_what_is_called() -> None:
    x, y = (ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT)) for n in ("x", "y"))
    outputs = [y, ir.Value(name="s"), ir.Value(name="t")]
    node = dialect.node("QuantizeActivation", "k32", [x], outputs)
    model = ir.Model(ir.Graph([x], outputs, nodes=[node], opset_imports={"": 25}), ir_version=12)
    for function in (dialect.quantize_activation(64), dialect.tabulate_activation(4)):
        model.functions[function.identifier()] = function
    dialect.install(model)
    assert [key[1:] for key in model.functions] == [("QuantizeActivation", "k32")]
    assert model.opset_imports[dialect.DOMAIN] == dialect.VERSION
