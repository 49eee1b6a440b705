"""Rounded activations in a file: the patterns that ONNX Runtime fuses, and what they compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from quantized import quantize_onnx
from small_graphs import Arrays, graph, meaning, op_types, quantized, random, stock

from ladder.calibration.ranges import least_error
from ladder.errors import LadderError
from ladder.export import rounded
from ladder.export.onnx_out import FileForm, rewrite
from ladder.export.pairs import Grid
from ladder.export.weights import array_of
from ladder.frontend.onnx_file import load_onnx
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import ActivationRanges, MuxedSite, Muxing, StaticScales

# Two products of one activation, one of them with a bias, as in attention.
PRODUCTS = """g (float[1, M, 64] x) => (float[1, M, 40] y, float[1, M, 24] z) {
    a = MatMul(x, w)
    y = Add(a, b)
    z = MatMul(x, v)
}"""
WEIGHTS = {"w": random(64, 40), "b": random(40, seed=1), "v": random(64, 24, seed=2)}
X = {"x": random(1, 5, 64, seed=3) + 1}
# A residual block with a stem that is pooled, as in ResNet, and a head.
RESIDUAL = """g (float[N, 4, 12, 12] x) => (float[N, 8, 6, 6] s, float[N, 64] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, k1, b1)
    r = Relu(a)
    p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
    c = Conv<pads = [1, 1, 1, 1]>(p, k2, b2)
    q = Relu(c)
    d = Conv<pads = [1, 1, 1, 1]>(q, k3, b3)
    e = Add(d, p)
    s = Relu(e)
    m = GlobalAveragePool(s)
    f = Flatten(m)
    y = Gemm<transB = 1>(f, h, hb)
}"""
KERNELS = {
    "k1": random(8, 4, 3, 3) / 4,
    **{f"k{i}": random(8, 8, 3, 3, seed=i) / 6 for i in (2, 3)},
    **{f"b{i}": random(8, seed=10 + i) for i in (1, 2, 3)},
    "h": random(64, 8, seed=7),
    "hb": random(64, seed=8),
}


def fused(model: ir.Model | Path, tmp_path: Path) -> Counter[str]:
    """The operators that ONNX Runtime executes."""
    source = str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # as on ARM
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def apart(got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest relative error (root mean square) of the outputs."""
    pairs = zip(got, wanted, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def rounded_inputs(x: np.ndarray) -> np.ndarray:
    """DynamicQuantizeLinear and back."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.rint(-low / scale)
    rounded: np.ndarray = ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(
        np.float32
    )
    return rounded


@pytest.mark.parametrize("type", ["int7:row", "int4:tensor", "int5:row"])
def test_uint8_is_dynamic_quantization(type: str, tmp_path: Path) -> None:
    proto = graph(PRODUCTS, WEIGHTS)
    exact = meaning(quantized(proto, type), {"x": rounded_inputs(X["x"])})
    model = quantized(proto, type)
    rewrite(model, FileForm(activation="uint8"))
    assert op_types(model).count("DynamicQuantizeLinear") == 1
    counted = fused(model, tmp_path)
    assert counted["MatMulIntegerToFloat"] + counted["DynamicQuantizeMatMul"] == 2
    assert "MatMulInteger" not in counted
    assert apart(stock(model, X), exact) < 1e-5


def test_an_activation_of_its_own_is_rounded_inside_the_product(tmp_path: Path) -> None:
    text = "g (float[M, 64] x) => (float[M, 40] y) { a = MatMul(x, w) y = Add(a, b) }"
    model = quantized(graph(text, {k: WEIGHTS[k] for k in "wb"}), "int8:row")
    rewrite(model, FileForm(activation="uint8"))
    assert fused(model, tmp_path) == {"DynamicQuantizeMatMul": 1}


@pytest.mark.parametrize("mode", ["int8:tensor", "int8:token"])
def test_symmetric_codes_are_bytes_with_a_zero_point(mode: str, tmp_path: Path) -> None:
    """ONNX Runtime multiplies int8 by int8 many times more slowly."""
    model = quantized(graph(PRODUCTS, WEIGHTS), "int7:row")
    wanted = stock(graph_file(PRODUCTS, WEIGHTS, tmp_path), X)
    rewrite(model, FileForm(activation=mode))
    zeros = {array_of(v).dtype for n, v in model.graph.initializers.items() if "q.zero" in n}
    assert zeros == {np.dtype(np.uint8)}
    assert apart(stock(model, X), wanted) < 0.02
    if mode == "int8:tensor":
        assert fused(model, tmp_path)["MatMulIntegerToFloat"] == 2


def graph_file(text: str, weights: Arrays, tmp_path: Path) -> Path:
    onnx.save(graph(text, weights), tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def test_a_zero_activation_gives_zero() -> None:
    for mode in ("uint8", "int8:tensor", "int8:token"):
        model = quantized(graph(PRODUCTS, WEIGHTS), "int7:row")
        rewrite(model, FileForm(activation=mode))
        y, z = stock(model, {"x": np.zeros((1, 2, 64), np.float32)})
        np.testing.assert_array_equal(y, np.broadcast_to(WEIGHTS["b"], y.shape))
        assert not z.any()


def quantized_file(tmp_path: Path, samples: Arrays, mode: str, **asked: Any) -> dict[str, Any]:
    np.savez(tmp_path / "x.npz", **samples)  # type: ignore[arg-type]
    return quantize_onnx(
        tmp_path / "in.onnx",
        tmp_path / "out.onnx",
        asked.pop("type", "int7:row"),
        activation=mode,
        calib=tmp_path / "x.npz",
        **asked,
    )


@pytest.mark.parametrize("mode", ["uint8:static", "int8:static"])
def test_static_products(tmp_path: Path, mode: str) -> None:
    """The bias is subtracted: ONNX Runtime makes a float Gemm of a MatMul and an Add."""
    source = graph_file(PRODUCTS, WEIGHTS, tmp_path)
    samples = {"x": np.stack([random(1, 5, 64, seed=s) + 1 for s in range(4)])}
    report = quantized_file(tmp_path, samples, mode)
    assert {s["form"] for s in report["sites"]} == {
        "MatMul between QuantizeLinear and DequantizeLinear"
    }
    assert fused(tmp_path / "out.onnx", tmp_path) == {
        "QuantizeLinear": 1,
        "MatMulIntegerToFloat": 2,
        "Sub": 1,
    }
    feeds = {"x": samples["x"][1]}
    assert apart(stock(tmp_path / "out.onnx", feeds), stock(source, feeds)) < 0.015
    quantized_file(tmp_path, samples, mode, purpose="portability")
    ops = op_types(ir.load(tmp_path / "out.onnx"))
    assert "Add" in ops and "Sub" not in ops


@pytest.mark.parametrize("mode", ["uint8:static", "int8:static"])
def test_static_convolutions(tmp_path: Path, mode: str) -> None:
    source = graph_file(RESIDUAL, KERNELS, tmp_path)
    samples = {"x": np.stack([random(2, 4, 12, 12, seed=s) for s in range(6)])}
    report = quantized_file(tmp_path, samples, mode)
    assert Counter(s["form"].split()[0] for s in report["sites"]) == {"Conv": 3, "MatMul": 1}
    counted = fused(tmp_path / "out.onnx", tmp_path)
    assert counted["QLinearConv"] == 3 and counted["QLinearAdd"] == 1
    assert not {"Conv", "Relu", "Add", "Gemm"} & set(counted)
    feeds = {"x": samples["x"][2]}
    assert apart(stock(tmp_path / "out.onnx", feeds), stock(source, feeds)) < 0.03
    assert [v.name for v in load_onnx(tmp_path / "out.onnx").model.graph.outputs] == ["s", "y"]
    kinds = {t.data_type for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert onnx.TensorProto.INT32 in kinds  # biases, as integer convolutions read them
    assert (onnx.TensorProto.UINT8 in kinds) == (mode == "uint8:static")


def test_what_has_no_integers_is_only_stored(tmp_path: Path) -> None:
    graph_file(RESIDUAL, KERNELS, tmp_path)
    samples = {"x": np.stack([random(2, 4, 12, 12, seed=s) for s in range(2)])}
    report = quantized_file(tmp_path, samples, "uint8:static", rules=("d=int8:g12",), keep=("y",))
    assert {s["name"]: s["form"] for s in report["sites"]}["d"] == "DequantizeLinear"
    assert (
        "1 Conv: activations stay float: int8:g12 has no signed integers with one scale per out "
        "feature" in report["notes"]
    )
    with pytest.raises(LadderError, match="value 'x' has no static range"):
        model = quantized(graph(PRODUCTS, WEIGHTS), "int7:row")
        facts.put(model, ActivationRanges())
        rewrite(model, FileForm(activation="uint8:static"))


def test_convolutions_stay_float_in_a_dynamic_mode(tmp_path: Path) -> None:
    graph_file(RESIDUAL, KERNELS, tmp_path)
    report = quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int8:row",
                           activation="uint8")  # fmt: skip
    assert any(note.startswith("3 Conv: activations stay float: ") for note in report["notes"])
    assert fused(tmp_path / "out.onnx", tmp_path)["DynamicQuantizeMatMul"] == 1


def test_the_range_of_least_error() -> None:
    normal = random(20000)
    low, high = least_error(normal)
    assert -4.5 < low < -2.5 and 2.5 < high < 4.5
    tail = np.append(normal, np.float32(30))
    assert least_error(tail)[1] < 30
    assert least_error(np.zeros(3, np.float32)) == (0, 0)
    assert least_error(np.abs(normal))[0] == 0


@pytest.mark.parametrize(("low", "high", "lowest"), [(-1, 3, 0), (0, 5, -128), (-2, 0, 0)])
def test_a_grid_holds_zero_and_its_ends(low: float, high: float, lowest: int) -> None:
    grid = Grid.over(low, high, lowest)
    codes = (lowest - grid.zero, lowest + 255 - grid.zero)
    assert lowest <= grid.zero <= lowest + 255
    assert np.allclose(np.array(codes) * grid.scale, (low, high), atol=grid.scale)
    assert Grid.over(0, 0, lowest) == Grid(np.float32(1), lowest)


@pytest.mark.parametrize("mode", ["int8:tensor", "uint8", "uint8:static"])
def test_muxed_sites_have_their_own_form(mode: str, tmp_path: Path) -> None:
    model = quantized(graph(PRODUCTS, WEIGHTS), "int7:row")
    facts.put(model, ActivationRanges({"x": (-3.5, 3.5)}))
    facts.put(model, StaticScales({"a": 0.03}))
    facts.put(model, Muxing({"a": MuxedSite("digits7", (3, 9))}))
    rewrite(model, FileForm(activation=mode))
    ops = op_types(model)
    assert ops.count("MatMulInteger") == 2 + (mode != "uint8:static")
    x = X["x"].copy()
    x[..., [3, 9]] *= 40
    got, wanted = stock(model, {"x": x}), stock(graph_file(PRODUCTS, WEIGHTS, tmp_path), {"x": x})
    assert apart(got[:1], wanted[:1]) < 0.015


def test_outliers_of_a_file(tmp_path: Path) -> None:
    graph_file(PRODUCTS, WEIGHTS, tmp_path)
    x = np.stack([random(1, 5, 64, seed=s) for s in range(4)])
    x[..., [3, 9]] *= 40
    plain = quantized_file(tmp_path, {"x": x}, "uint8:static", type="int8:row")
    wanted = stock(tmp_path / "in.onnx", {"x": x[0]})
    before = apart(stock(tmp_path / "out.onnx", {"x": x[0]}), wanted)
    report = quantized_file(tmp_path, {"x": x}, "uint8:static", type="int8:row", outliers="digits")
    assert {s["form"] for s in report["sites"]} == {"MatMulInteger"}
    assert {s["form"] for s in plain["sites"]} != {"MatMulInteger"}
    assert apart(stock(tmp_path / "out.onnx", {"x": x[0]}), wanted) < before / 4


@pytest.mark.parametrize(
    ("mode", "type", "flags", "said"),
    [
        ("uint8:tensor", "int8:row", {"avx2"}, True),
        ("uint8:tensor", "int8:row", {"avx2", "avx_vnni"}, False),
        ("uint8:tensor", "int7:row", {"avx2"}, False),
        ("int8:token", "int8:row", {"avx2"}, False),
        ("uint8:static", "int8:row", {"asimd"}, False),
    ],
)
def test_sums_that_may_overflow_are_noted(
    monkeypatch: pytest.MonkeyPatch, mode: str, type: str, flags: set[str], said: bool
) -> None:
    monkeypatch.setattr(rounded, "cpu_flags", lambda: frozenset(flags))
    assert rounded.may_overflow(mode, {DType.parse(type)}) == said
