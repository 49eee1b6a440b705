"""Export of every type: ONNX Runtime computes the decoded weight; and the contents of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from high_rung import Operands, case, high_rung
from small_graphs import checked, op_types, stock

from ladder.errors import LadderError
from ladder.export import decode, nbits
from ladder.export.forms import form
from ladder.export.onnx_out import FileForm, rewrite
from ladder.export.weights import array_of
from ladder.ir.dtype import ALIASES, DType
from ladder.ir.element import ELEMENTS, code_book, register

EXACT = 1e-5  # of the largest value
OPS = ("MatMul", "Gemm", "Gather")
SQUARES = register(code_book("test_squares", [v * abs(v) / 900 for v in range(-30, 31)]))
THREES = register(code_book("test_threes", [-3.0, -1.0, 0.0]))
GROUPS = ("g32", "g20", "row", "tensor")
SCALED = ("int4:g32:fp16", "int8:row:bf16", "int3:g48:e8m0", "int4:g16:e4m3", "nf4:tensor:fp16")
FLOAT_ZEROS = [f"uint{bits}:{rest}:zpf" for bits in (1, 2, 3, 4, 8) for rest in ("g32", "row:fp16")]
TYPES = [
    *(
        f"{name}:{group}{'' if element.signed else ':zp'}"
        for name, element in ELEMENTS.items()
        for group in GROUPS
    ),
    *ALIASES.values(),
    *SCALED,
    *FLOAT_ZEROS,
    "uint4:g20:bf16:zpf",
    "uint5:tensor:zpf",
]


def exported(text: str, op: str, shape: tuple[int, int], format: str, opset: int = 21) -> ir.Model:
    """The rewritten model, after a check and a comparison of ONNX Runtime with float64."""
    operands = Operands.of(text, *shape)
    model = high_rung(op, operands, opset)
    rewrite(model, FileForm(format))
    checked(model)
    feed, wanted = case(op, operands)
    (got,) = stock(model, {"x": feed})
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= EXACT * np.abs(wanted).max()
    return model


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("text", TYPES)
def test_standard_operators(text: str, op: str) -> None:
    exported(text, op, (7, 97), "qdq")


@pytest.mark.parametrize("text", ["mxfp4", "nvfp4", "nf4:g64", "uint4:g64:zpf", "mxfp6", "mxfp8"])
def test_shapes_that_fit_and_single_groups(text: str) -> None:
    for shape in [(16, 128), (5, 16), (1, 3)]:
        exported(text, "MatMul", shape, "qdq")


def nbits_types() -> list[tuple[str, str]]:
    found = []
    for text in dict.fromkeys(TYPES):
        dtype = DType.parse(text)
        found += [(text, op) for op in OPS if nbits.refuse(op, dtype, 96) is None]
    return found


@pytest.mark.parametrize(("text", "op"), nbits_types())
def test_operators_of_onnx_runtime(text: str, op: str) -> None:
    model = exported(text, op, (8, 96), "nbits", 17)
    wanted = form("nbits", op, DType.parse(text))
    assert [o for o in op_types(model) if o not in ("Cast", "Mul", "Add")] == [wanted]
    assert model.graph.opset_imports[""] == 17


def test_nbits_has_every_type_it_should() -> None:
    names = {DType.parse(text).name for text, op in nbits_types() if op == "MatMul"}
    integers = {f"{sign}int{bits}" for sign in ("", "u") for bits in (1, 2, 4, 8)}
    assert names == integers | {"ternary", "ternary2", "nf4"}


@pytest.mark.parametrize("text", ["uint2:g32:zpf", "uint4:g32:zpf"])
@pytest.mark.parametrize("k", [40, 97])
def test_float_zeros_and_a_short_last_group(text: str, k: int) -> None:
    exported(text, "MatMul", (5, k), "nbits", 17)


@pytest.mark.parametrize(
    ("text", "op", "k", "match"),
    [
        ("fp4_e2m1:g32", "MatMul", 64, "integers only, not the code book of fp4_e2m1"),
        ("fp8_e4m3:row", "Gemm", 64, "MatMulNBits has integers only, not the code book of fp8"),
        ("nf4:g64", "Gather", 64, "GatherBlockQuantized has integers only, not the code book"),
        ("nf4:g64", "MatMul", 96, "MatMulBnb4 needs groups that divide K = 96, not 64"),
        ("nf4:g24", "MatMul", 96, "groups of a multiple of 16 weights, not 24"),
        ("nf4:row", "MatMul", 97, "groups of a multiple of 16 weights, not 97"),
        ("uint8:g32:zpf", "MatMul", 64, "MatMulNBits has no float zero points with 8 bits"),
        ("uint4:g32:zpf", "Gather", 64, "GatherBlockQuantized has no float zero points;"),
        ("uint3:g32:zpf", "MatMul", 64, "stores 2, 4, 8 bits, not 3"),
        ("int1:g20", "MatMul", 60, "groups that are a power of two from 16 on, not 20"),
        ("int1:row", "Gather", 63, "whole bytes per row, not 63 codes of 2 bits"),
    ],
)
def test_nbits_refusals(text: str, op: str, k: int, match: str) -> None:
    with pytest.raises(LadderError, match=f"site y: {text} has no nbits form: .*{match}"):
        exported(text, op, (8, k), "nbits")


@pytest.mark.parametrize(
    ("text", "kind", "opset", "name"),
    [
        ("int1:g32", "INT2", 25, decode.DEQUANTIZE),
        ("uint1:row:zp", "UINT2", 25, decode.DEQUANTIZE),
        ("ternary:tensor", "INT2", 25, decode.DEQUANTIZE),
        ("uint2:g32:zpf", "UINT2", 25, decode.ARITHMETIC),
        ("uint4:g32:zpf", "UINT4", 21, decode.ARITHMETIC),
        ("uint8:g32:zpf", "UINT8", 13, decode.ARITHMETIC),
        ("nf4:g64", "UINT4", 21, decode.BOOK),
        ("mxfp4", "UINT4", 21, decode.BOOK),
        ("test_threes:row", "UINT2", 25, decode.BOOK),
        ("test_squares:g32", "UINT8", 13, decode.BOOK),
        ("fp6_e2m3:g32", "FLOAT8E4M3FN", 21, decode.DEQUANTIZE),
        ("fp6_e3m2:g32", "FLOAT8E4M3FN", 21, decode.DEQUANTIZE),
        ("fp8_e4m3:g32", "FLOAT8E4M3FN", 21, decode.DEQUANTIZE),
        ("fp8_e5m2:row", "FLOAT8E5M2", 21, decode.DEQUANTIZE),
    ],
)
def test_form_and_opset(text: str, kind: str, opset: int, name: str) -> None:
    model = exported(text, "MatMul", (7, 97), "qdq", 11)
    assert model.graph.initializers["y.quantized"].dtype == ir.DataType[kind]
    assert model.graph.opset_imports[""] == opset
    assert form("qdq", "MatMul", DType.parse(text)) == name


@pytest.mark.parametrize("text", ["fp8_e4m3:g32", "fp8_e5m2:row"])
def test_float8_keeps_its_bits(text: str) -> None:
    model = exported(text, "Gather", (7, 97), "qdq")
    kept = array_of(model.graph.initializers["y.quantized"]).view(np.uint8)
    np.testing.assert_array_equal(kept, Operands.of(text, 7, 97).codes)


@pytest.mark.parametrize(
    ("scale", "opset", "kind"),
    [
        ("fp16", 13, "FLOAT16"),
        ("bf16", 13, "BFLOAT16"),
        ("bf16", 11, "FLOAT"),
        ("e8m0", 25, "FLOAT8E8M0"),
        ("e8m0", 23, "BFLOAT16"),
        ("e8m0", 11, "FLOAT"),
        ("e4m3", 19, "FLOAT8E4M3FN"),
        ("e4m3", 17, "BFLOAT16"),
    ],
)
def test_types_of_scales(scale: str, opset: int, kind: str) -> None:
    """They raise no opset: if it lacks the type, a type that holds all its values is used."""
    model = exported(f"int4:g32:{scale}", "MatMul", (8, 96), "nbits", opset)
    assert model.graph.initializers["y.packed.scale"].dtype == ir.DataType[kind]
    assert model.graph.opset_imports[""] == opset


@pytest.mark.parametrize("text", ["nf4:g32", "mxfp4", "uint4:g32:zpf", "fp8_e4m3:g32", "int4:row"])
def test_no_float_weight_is_kept_in_memory(text: str, tmp_path: Path) -> None:
    """ONNX Runtime computes the scales when it loads the file, but not the weight."""
    n, k = 24, 256
    model = exported(text, "MatMul", (n, k), "qdq")
    assert largest_constant(model, tmp_path / "optimized.onnx") < n * k * 2


def largest_constant(model: ir.Model, file: Path) -> int:
    """Its bytes once ONNX Runtime has optimized the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return max(array_of(v).nbytes for v in ir.load(file).graph.initializers.values())


def test_bits_in_the_file() -> None:
    """4 bits and a byte for 32 of them; the same scale in bfloat16 before opset 24."""
    for opset, bits in [(24, 4.25), (21, 4.5)]:
        model = exported("mxfp4", "MatMul", (64, 256), "qdq", opset)
        values = model.graph.initializers.values()
        large = [v for v in values if v.const_value is not None and v.const_value.size > 64]
        stored = sum(v.const_value.nbytes for v in large if v.const_value is not None)
        assert stored * 8 / (64 * 256) == bits
