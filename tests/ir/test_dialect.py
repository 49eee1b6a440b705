"""The bodies of the dialect's functions under ONNX Runtime equal ``ladder.ir.numerics``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from dialect_cases import Case, N, assert_close, run

from ladder.codegen.layout import Packing, pack_codes
from ladder.ir import dialect, numerics
from ladder.ir.activation import QUANTIZED, overload
from ladder.ir.dtype import DType

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
    "uint4:g32:fp16:min",
    "uint5:row:min",
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


@pytest.fixture(params=TYPES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case.of(request.param)


@pytest.mark.parametrize("mode", ["int8", "int4", "int2"])
def test_integer_products(case: Case, mode: str) -> None:
    dtype, kind = case.dtype, QUANTIZED[mode]
    block, step = overload(mode, dtype.block), dtype.element.step
    q, scale, total = numerics.quantize_activation(case.x, dtype.block, kind.bits, kind.granularity)
    got = run("QuantizeActivation", block, [case.x[None]])
    for a, b in zip(got, (q, scale, total), strict=True):
        np.testing.assert_array_equal(a[0], b)
    sums = numerics.dot_sums(q, total, case.unsigned, case.zeros, dtype.block, step)
    wanted = numerics.combine(sums, case.block_scale, scale, case.shift(total))
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
    wanted = numerics.combine(sums, case.block_scale, scale, case.shift(total, doubled=True))
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
