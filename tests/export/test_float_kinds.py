"""Models in float16, bfloat16 and double: their weights are quantized, in the model's type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from quantized import quantize_onnx
from small_graphs import op_types, random, stock

from ladder.errors import LadderError
from ladder.ir.names import named

KINDS = {"FLOAT16": np.float16, "DOUBLE": np.float64, "BFLOAT16": ml_dtypes.bfloat16}
# Two products of one activation, a Gemm with a bias, a table and a convolution.
TEXT = """<ir_version: 10, opset_import: ["": 18]>
g ({kind}[2, 64] x, int64[3] i, {c_in})
=> ({kind}[2, 48] y, {kind}[2, 32] z, {kind}[3, 40] e{c_out}) {{
    a = MatMul(x, w)
    b = MatMul(x, v)
    y = Add(a, b)
    z = Gemm(y, g, h)
    e = Gather(t, i)
    {conv}
}}"""
# ONNX Runtime has convolutions in float16, and none in the others.
CONV = {"c_in": "float16[1, 8, 9] c", "c_out": ", float16[1, 32, 7] k", "conv": "k = Conv(c, f, d)"}
NONE = {"c_in": "int64 c", "c_out": "", "conv": ""}
WEIGHTS = {
    **{"w": random(64, 48) / 8, "v": random(64, 48, seed=1) / 8, "g": random(48, 32, seed=2)},
    **{"h": random(32, seed=3), "t": random(20, 40, seed=4), "f": random(32, 8, 3, seed=5)},
    "d": random(32, seed=6),
}
FEEDS = {"x": random(2, 64, seed=7), "i": np.array([0, 19, 3]), "c": random(1, 8, 9, seed=8)}
OUTPUTS = ["y", "z", "e", "k"]


def source(kind: str, tmp_path: Path) -> Path:
    parts = CONV if kind == "FLOAT16" else NONE
    model = onnx.parser.parse_model(TEXT.format(kind=kind.lower(), **parts))
    for name, array in WEIGHTS.items():
        tensor = ir.Tensor(array.astype(KINDS[kind]), dtype=ir.DataType[kind], name=name)
        model.graph.initializer.append(ir.to_proto(tensor))
    onnx.save(model, tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def feeds(kind: str) -> dict[str, np.ndarray]:
    made = {n: a if n == "i" else a.astype(KINDS[kind]) for n, a in FEEDS.items()}
    return made if kind == "FLOAT16" else made | {"c": np.array(0)}


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
@pytest.mark.parametrize(
    "asked",
    [
        {"type": "int8:row"},
        {"type": "int4:g16"},
        {"type": "nf4:g16", "format": "qdq"},
        {"type": "uint4:g20:zpf"},
        {"type": "mxfp8"},
        {"type": "int8:row", "activation": "uint8"},
        {"type": "int8:row", "activation": "int8:token"},
    ],
    ids=str,
)
def test_outputs(kind: str, asked: dict[str, Any], tmp_path: Path) -> None:
    """The file is also compared with the values of its low-bit weights before it is written."""
    path, target = source(kind, tmp_path), tmp_path / "out.onnx"
    report = quantize_onnx(path, target, **asked)
    assert {site["name"] for site in report["sites"]} == set(
        "abzek" if kind == "FLOAT16" else "abze"
    )
    assert report["check"]["error"] is not None
    wanted, got = stock(path, feeds(kind)), stock(target, feeds(kind))
    for name, a, b in zip(OUTPUTS, got, wanted, strict=False):
        assert a.dtype == b.dtype == KINDS[kind]
        error = np.linalg.norm((a - b).astype(np.float64)) / np.linalg.norm(b.astype(np.float64))
        assert 1e-4 < error < (0.02 if "int8" in asked["type"] else 0.2), name


def test_float16_has_scales_and_activations_of_its_type(tmp_path: Path) -> None:
    report = quantize_onnx(source("FLOAT16", tmp_path), tmp_path / "out.onnx", "int4:g16")
    assert {site["type"] for site in report["sites"]} == {"int4:g16:fp16"}
    model: ir.Model = ir.load(tmp_path / "out.onnx")
    ops = op_types(model)
    assert "Cast" not in ops and ops.count("MatMulNBits") == 3
    types = {v.dtype for v in named(model) if isinstance(v, ir.Value) and v.dtype is not None}
    assert ir.DataType.FLOAT not in types


def test_bfloat16_is_written_though_onnx_runtime_has_no_such_products(tmp_path: Path) -> None:
    report = quantize_onnx(source("BFLOAT16", tmp_path), tmp_path / "out.onnx", "int4:g16")
    assert "ONNX Runtime does not run the original" in report["check"]["reason"]
    assert {site["type"] for site in report["sites"]} == {"int4:g16:bf16"}
    model: ir.Model = ir.load(tmp_path / "out.onnx")
    assert {"MatMulNBits", "Cast"}.isdisjoint(op_types(model))
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)


def test_double_has_no_operators_of_onnx_runtime(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="MatMulNBits has no DOUBLE"):
        quantize_onnx(source("DOUBLE", tmp_path), tmp_path / "out.onnx", "int4:g16", format="nbits")


def test_static_and_calibrated_rounding(tmp_path: Path) -> None:
    path, target = source("FLOAT16", tmp_path), tmp_path / "out.onnx"
    samples = {n: np.stack([a, a]) for n, a in feeds("FLOAT16").items()}
    np.savez(tmp_path / "x.npz", **samples)  # type: ignore[arg-type]
    report = quantize_onnx(path, target, "int8:row", activation="uint8:static", rounding="gptq",
                           calib=tmp_path / "x.npz")  # fmt: skip
    assert {site["rounding"] for site in report["sites"]} >= {"gptq"}
    session = ort.InferenceSession(target)
    got = session.run(None, feeds("FLOAT16"))
    for a, b in zip(got, stock(path, feeds("FLOAT16")), strict=True):
        assert np.abs(a.astype(np.float32) - b).max() < 0.03 * np.abs(b).max()
