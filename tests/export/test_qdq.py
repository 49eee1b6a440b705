"""Export to standard operators: what is written, and that ONNX Runtime computes the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import (
    assert_same,
    checked,
    graph,
    meaning,
    op_types,
    quantized,
    random,
    stock,
)

from ladder.errors import LadderError
from ladder.export.onnx_out import FileForm, rewrite
from ladder.export.weights import array_of
from ladder.ir.dtype import DType

MATMUL = "g (float[M, {k}] x) => (float[M, {n}] y) {{ y = MatMul(x, w) }}"
TYPES = [
    *(f"int{bits}:g32" for bits in range(2, 9)),
    *(f"int4:{group}" for group in ("g16", "g48", "g64", "g128", "g512", "row", "tensor")),
    *(f"int8:{group}" for group in ("g64", "g128", "row", "tensor")),
    *(f"int2:{group}" for group in ("g64", "row", "tensor")),
    *(f"uint{bits}:{group}:zp" for bits in (3, 8) for group in ("g32", "row", "tensor")),
    "uint2:g32:zp",
    "uint4:g32:zp",
]
SHAPES = [(64, 64), (5, 97), (17, 256), (1, 3)]


def exported(model: ir.Model) -> ir.Model:
    rewrite(model, FileForm("qdq"))
    return model


def matmul(n: int, k: int, type: str, opset: int = 21) -> ir.Model:
    return quantized(graph(MATMUL.format(n=n, k=k), {"w": random(k, n)}, opset), type)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("type", TYPES)
def test_stock_runtime_computes_the_meaning(type: str, shape: tuple[int, int]) -> None:
    n, k = shape
    model = matmul(n, k, type)
    feeds = {"x": random(4, k, seed=1)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert_same(stock(model, feeds), wanted)


@pytest.mark.parametrize(
    "type", ["uint2:row:zp", "uint2:tensor:zp", "uint4:row:zp", "uint4:tensor:zp"]
)
def test_packed_zero_points_per_row(type: str) -> None:
    """Compared with NumPy: ONNX Runtime cannot reshape packed codes in the dialect's function."""
    model = matmul(6, 64, type)
    codes, scale, zero = (
        array_of(model.graph.initializers[f"y.{part}"]).astype(np.float32)
        for part in ("codes", "scale", "zero")
    )
    x = random(4, 64, seed=1)
    assert_same(stock(exported(model), {"x": x}), [x @ ((codes - zero) * scale).T])


@pytest.mark.parametrize("type", ["int8:row", "int8:tensor", "int4:row", "int3:g48", "int8:g512"])
@pytest.mark.parametrize("k", [64, 97])
def test_rows_and_unfused_blocks_keep_the_orientation(type: str, k: int) -> None:
    model = exported(matmul(6, k, type))
    assert op_types(model) == ["DequantizeLinear", "MatMul"]
    assert model.graph.initializers["y.quantized"].shape == ir.Shape([k, 6])


@pytest.mark.parametrize("type", ["int4:g32", "int8:g64"])
def test_fused_blocks_go_through_a_transpose(type: str) -> None:
    model = exported(matmul(6, 128, type))
    assert op_types(model) == ["DequantizeLinear", "Transpose", "MatMul"]
    assert model.graph.initializers["y.quantized"].shape == ir.Shape([6, 128])


@pytest.mark.parametrize(
    ("type", "kind", "opset"),
    [
        ("int2:g32", "INT2", 25),
        ("uint2:g32:zp", "UINT2", 25),
        ("int3:g32", "INT8", 21),
        ("int4:g32", "INT4", 21),
        ("uint4:g32:zp", "UINT4", 21),
        ("int5:g32", "INT8", 21),
        ("uint6:g32:zp", "UINT8", 21),
        ("int8:row", "INT8", 21),
    ],
)
@pytest.mark.parametrize("original", [11, 13, 17, 18, 20])
def test_containers_and_opset(type: str, kind: str, opset: int, original: int) -> None:
    model = exported(matmul(16, 64, type, original))
    codes = model.graph.initializers["y.quantized"]
    assert codes.dtype == ir.DataType[kind]
    assert model.graph.opset_imports == {"": opset, "custom": 1}
    checked(model)


def test_a_newer_opset_stays() -> None:
    assert exported(matmul(16, 64, "int4:g32", 23)).graph.opset_imports[""] == 23


def test_codes_are_those_of_the_ir() -> None:
    model = matmul(8, 64, "int4:g32")
    codes = model.graph.initializers["y.codes"].const_value
    assert codes is not None
    wanted = codes.numpy().astype(np.int8)
    kept = exported(model).graph.initializers["y.quantized"].const_value
    assert kept is not None
    assert (kept.numpy().astype(np.int8) == wanted).all()
    assert "y.codes" not in model.graph.initializers


ROUNDED = """g (float[4, 64] x) => (float[4, 6] y) {
    q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    p = MatMul (d, w)
    r = QuantizeLinear (p, t, z)  y = DequantizeLinear (r, t, z)
}"""


@pytest.mark.parametrize("type", ["int8:row", "int8:g32", "int5:row"])
def test_bytes_are_unsigned_next_to_rounded_activations(type: str) -> None:
    """ONNX Runtime multiplies them as bytes: signed ones overflow on a CPU without VNNI."""
    steps = {"s": np.array(0.03, np.float32), "t": np.array(0.2, np.float32)}
    scales: dict[str, np.ndarray] = {**steps, "z": np.array(128, np.uint8)}
    model = quantized(graph(ROUNDED, {"w": random(64, 6), **scales}), type)
    feeds = {"x": random(4, 64, seed=1)}
    wanted = meaning(model, feeds)
    exported(model)
    (weight,) = (n for n in model.graph if n.name == "p.dequantized")
    codes, _, zero = (array_of(value) for value in weight.inputs if value is not None)
    assert codes.dtype == zero.dtype == np.uint8 and (zero == 128).all()
    assert_same(stock(model, feeds), wanted)


GEMM = "g (float[M, 33] x) => (float[M, 5] y) {{ y = Gemm<transB={t}>(x, w{bias}) }}"


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), ()])
@pytest.mark.parametrize("type", ["int4:g32", "int8:row"])
def test_gemm_stays_one_node(transposed: int, bias: tuple[int, ...] | None, type: str) -> None:
    weights = {"w": random(*((5, 33) if transposed else (33, 5)))}
    if bias is not None:
        weights["b"] = np.array(random(*bias, seed=2), np.float32)
    text = GEMM.format(t=transposed, bias=", b" if bias is not None else "")
    model = quantized(graph(text, weights), type)
    feeds = {"x": random(3, 33, seed=1)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert op_types(model) == ["DequantizeLinear", "Gemm"]
    assert_same(stock(model, feeds), wanted)


TIED = """g (int64[T] ids) => (float[T, 20] y) {
    x = Gather(table, ids)
    head = Transpose<perm=[1, 0]>(table)
    y = MatMul(x, head)
}"""


@pytest.mark.parametrize("type", ["int4:g32", "int8:row", "int8:tensor", "uint4:g32:zp"])
def test_tied_embedding_is_stored_once(type: str) -> None:
    model = quantized(graph(TIED, {"table": random(20, 48)}), type)
    feeds = {"ids": np.array([3, 19, 0])}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert op_types(model) == ["DequantizeLinear", "Transpose", "Gather", "MatMul"]
    assert len(model.graph.initializers) == (3 if DType.parse(type).zero_point else 2)
    assert_same(stock(model, feeds), wanted)


BRANCHES = """g (float[M, 40] x, bool c) => (float[M, 6] y) {
    h = MatMul(x, w)
    y = If(c) <
        then_branch = yes () => (float[M, 6] a) { a = MatMul(h, v) },
        else_branch = no () => (float[M, 6] b) { t = MatMul(x, w)  b = MatMul(t, v) }
    >
}"""


@pytest.mark.parametrize("opset", [13, 16, 21])
@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs(opset: int, condition: bool) -> None:
    weights = {"w": random(40, 32), "v": random(32, 6, seed=3)}
    model = quantized(graph(BRANCHES, weights, opset), "int4:g32")
    feeds = {"x": random(2, 40, seed=1), "c": np.array(condition)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert "LowBitMatMul" not in op_types(model)
    assert_same(stock(model, feeds), wanted)


CONSTANT = """g (float[M, 3] x) => (float[M, 2] y) {
    w = Constant<value = float[3, 2] {1., -2., 3., 4., -5., 6.}>()
    y = MatMul(x, w)
}"""


def test_weight_in_a_constant_node() -> None:
    model = quantized(graph(CONSTANT, {}), "int8:row")
    feeds = {"x": random(2, 3)}
    wanted = meaning(model, feeds)
    exported(model)
    assert op_types(model) == ["DequantizeLinear", "MatMul"]
    assert_same(stock(model, feeds), wanted)


RICH = """rich (float[M, 32] x) => (float[M, 8] y, float[M, 8] s) {
    h = MatMul(x, w)
    s = Softmax<axis = 1>(h)
    t = custom.Thing<k = 3>(h)
    y = Relu(h)
}"""


def rich_model(opset: int) -> ir.Model:
    proto = graph(RICH, {"w": random(32, 8), "unused": random(2)}, opset)
    proto.doc_string, proto.producer_name, proto.model_version = "a model", "someone", 7
    proto.graph.doc_string = "a graph"
    proto.metadata_props.add(key="author", value="me")
    for node in proto.graph.node:
        node.name, node.doc_string = f"node_{node.output[0]}", f"makes {node.output[0]}"
        node.metadata_props.add(key="place", value=node.output[0])
    return quantized(proto, "int8:row")


@pytest.mark.parametrize("opset", [12, 21])
def test_everything_else_is_kept(opset: int) -> None:
    proto = checked(exported(rich_model(opset)))
    assert (proto.doc_string, proto.producer_name, proto.model_version) == ("a model", "someone", 7)
    assert (proto.graph.name, proto.graph.doc_string) == ("rich", "a graph")
    assert {p.key: p.value for p in proto.metadata_props}["author"] == "me"
    assert [v.name for v in proto.graph.input] == ["x"]
    assert [v.name for v in proto.graph.output] == ["y", "s"]
    kept = {node.output[0]: node for node in proto.graph.node}
    for name in ("h", "s", "t", "y"):
        assert kept[name].doc_string == f"makes {name}"
        assert {p.key: p.value for p in kept[name].metadata_props}["place"] == name
    assert {kept[name].name for name in ("h", "t", "y")} == {"node_h", "node_t", "node_y"}
    assert (kept["t"].domain, kept["t"].attribute[0].i) == ("custom", 3)
    assert "unused" in {t.name for t in proto.graph.initializer}
    assert not proto.functions


def test_new_names_do_not_clash() -> None:
    proto = graph(MATMUL.format(n=8, k=32), {"w": random(32, 8), "y.quantized": random(1)})
    model = exported(quantized(proto, "int8:row"))
    assert "y.quantized#2" in model.graph.initializers
    checked(model)


LOCAL = """<ir_version: 10, opset_import: ["": 17, "local": 1]>
g (float[M, 32] x) => (float[M, 8] y) { h = MatMul(x, w) y = local.f(h) }
<domain: "local", opset_import: ["": 17]> f (a) => (b) { b = Relu(a) }
"""


def test_local_functions_of_an_old_opset_are_refused() -> None:
    import onnx

    proto = onnx.parser.parse_model(LOCAL)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random(32, 8), "w"))
    with pytest.raises(
        LadderError, match=r"opset 17 to 21.*local function local.f.*--format nbits"
    ):
        rewrite(quantized(proto, "int4:g32"), FileForm("qdq"))


def test_unknown_format() -> None:
    with pytest.raises(LadderError, match="unknown format 'gguf'; one of: auto, qdq, nbits"):
        rewrite(matmul(8, 32, "int4:g32"), FileForm("gguf"))


def test_lowered_models_are_refused() -> None:
    from ladder.passes.infra.runner import run_passes
    from ladder.passes.lower_types import LowerTypes

    model = run_passes(matmul(8, 32, "int4:g32"), [LowerTypes()])
    with pytest.raises(LadderError, match="already lowered to a kernel; export before"):
        rewrite(model, FileForm("qdq"))
