"""Integer activations in a file: ONNX Runtime computes the integers of the compiled kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from quantized import quantize_onnx
from small_graphs import graph, op_types, random, stock

from ladder.errors import LadderError
from ladder.export.onnx_out import FileForm, export_onnx, rewrite
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import MuxedSite, Muxing, StaticScales
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_types import LowerTypes
from ladder.passes.round_weights import RoundWeights

K, N, M = 83, 24, 3
TEXT = f"""g (float[{M}, {K}] x) => (float[{M}, {N}] y, float[{M}, {N}] z) {{
  y = MatMul(x, "a.weight")
  z = Gemm<transB = 1>(x, "b.weight", "b.bias")
}}"""
CHANNELS = (3, 40, 82)
STANDARD = {"", "ai.onnx"}
NBITS_INT8 = FileForm("nbits", activation="int8")
# mode, mux, type
FILES = [
    ("int8:tensor", "digits6", "int8:row"),
    ("int8:static", "digits4x2", "uint8:row:zp"),
    ("int8:token", "muxq2", "int4:g32"),
    ("int6", "digits5", "uint4:g20:zp"),
    ("int8:token", "", "nf4:g32"),
    ("int8:static", "", "ternary:tensor"),
    ("int4:tensor", "digits3", "uint2:row:zp"),
    ("int8:tensor", "", "int5:row"),
    ("int6:token", "", "int8:tensor"),
]


def rounded(type: str, mux: str, ones: bool = False) -> ir.Model:
    """A model before lowering, with facts; with ``ones`` all scales are 1 and outputs integers."""
    weights = {
        "a.weight": random(K, N, seed=1),
        "b.weight": random(N, K, seed=2),
        "b.bias": np.zeros(N, np.float32) if ones else random(N, seed=3),
    }
    model: ir.Model = ir.from_proto(graph(TEXT, weights))
    if mux:
        site = MuxedSite(mux, CHANNELS)
        facts.put(model, Muxing({"a": site, "b": site}))
    # Without outliers a pair of QuantizeLinear and DequantizeLinear clips at -128, kernels at -127.
    scale = 1.0 if ones or not mux else 0.02
    facts.put(model, StaticScales({"a": scale, "b": scale}))
    run_passes(model, [AllocateUniform(DType.parse(type)), RoundWeights("rtn")])
    for value in model.graph.initializers.values() if ones else ():
        if str(value.name).endswith(".scale") and value.const_value is not None:
            array = np.ones_like(value.const_value.numpy())
            value.const_value = ir.Tensor(array, name=value.name)
    return model


def inputs(ones: bool = False) -> np.ndarray:
    x = random(M, K, seed=4)
    x[:, CHANNELS] *= 30
    return x * 40 if ones else x


def compiled(model: ir.Model, mode: str, x: np.ndarray) -> list[np.ndarray]:
    run_passes(model, [LowerTypes(mode)])
    return run_compiled(model, HERE[-1], {"x": x}).outputs


@pytest.mark.kernels
@pytest.mark.parametrize(("mode", "mux", "type"), FILES)
def test_the_file_computes_what_the_kernels_do(mode: str, mux: str, type: str) -> None:
    x = inputs()
    out = rounded(type, mux)
    rewrite(out, FileForm(activation=mode))
    assert {node.domain for node in out.graph.all_nodes()} <= STANDARD and not out.functions
    integers = "MatMulInteger" if mux or mode != "int8:static" else "QuantizeLinear"
    assert integers in op_types(out)
    wanted = compiled(rounded(type, mux), mode, x)
    for got, y in zip(stock(out, {"x": x}), wanted, strict=True):
        assert np.abs(got - y).max() <= 1e-5 * np.abs(y).max()


@pytest.mark.kernels
@pytest.mark.parametrize(("mux", "type"), [("digits5", "int8:row"), ("muxq2", "uint4:row:zp")])
def test_the_integer_accumulators_are_equal(mux: str, type: str) -> None:
    """All scales are 1, so the outputs are the accumulators; below 2^24 floats are exact."""
    x, mode = inputs(ones=True), "int8:static"
    out = rounded(type, mux, ones=True)
    rewrite(out, FileForm(activation=mode))
    wanted = compiled(rounded(type, mux, ones=True), mode, x)
    for got, y in zip(stock(out, {"x": x}), wanted, strict=True):
        assert np.abs(y).max() < 1 << 24 and (y == np.rint(y)).all() and np.abs(y).max() > 1000
        np.testing.assert_array_equal(got, y)


def test_a_file_from_a_file(tmp_path: Path) -> None:
    weights = {"a.weight": random(K, N), "b.weight": random(N, K), "b.bias": random(N)}
    ir.save(ir.from_proto(graph(TEXT, weights)), tmp_path / "in.onnx")
    report = quantize_onnx(
        tmp_path / "in.onnx", tmp_path / "out.onnx", "int8:row", activation="int8:token"
    )
    assert {row["form"] for row in report["sites"]} == {"QuantizeLinear, MatMulInteger"}
    x = random(M, K, seed=4)
    got, wanted = (stock(tmp_path / name, {"x": x}) for name in ("out.onnx", "in.onnx"))
    for a, b in zip(got, wanted, strict=True):
        assert np.abs(a - b).max() <= 0.02 * np.abs(b).max()


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="needs --format auto or qdq"):
        export_onnx(rounded("int4:g32", ""), tmp_path / "y.onnx", NBITS_INT8)
    with pytest.raises(LadderError, match="has no integer codes"):
        rewrite(rounded("int4:g32", ""), FileForm(activation="table8"))
