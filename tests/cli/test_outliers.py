"""``--outliers`` on the command line: choices are reported, invalid combinations are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import Ran
from small_graphs import graph, random

TEXT = """g (float[16, 48] x) => (float[16, 20] y) {
  n = LayerNormalization(x, gain)
  y = MatMul(n, "a.weight")
}"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gain = np.ones(48, np.float32)
    gain[[5, 17]] = (30, 80)
    model, samples = tmp_path / "in.onnx", tmp_path / "x.npz"
    onnx.save(graph(TEXT, {"gain": gain, "a.weight": random(48, 20)}, 23), model)
    np.savez(samples, x=random(4, 16, 48, seed=2))
    return model, samples


def error(model: Path, exact: Path, samples: Path) -> float:
    feeds = {"x": np.load(samples)["x"][0]}
    found, wanted = (ort.InferenceSession(str(p)).run(None, feeds)[0] for p in (model, exact))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_quantize_reports_what_it_chose(
    cli: Callable[..., Ran], files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, samples = files
    common = ("--type", "int8:row", "--activation", "int8:tensor", "--json", "--calib", samples)
    errors = {}
    for method in ("digits", "smooth", "auto"):
        out = tmp_path / f"{method}.onnx"
        result = cli("quantize", model, out, *common, "--outliers", method).json
        (site,) = result["sites"]
        assert method in (site["outliers"], "auto")
        assert site["outlier_errors"][site["outliers"]] < 0.5 * site["outlier_errors"]["none"]
        assert any("outliers (int8:tensor activations)" in note for note in result["notes"])
        assert any(note.startswith("outliers were found on 4 tokens") for note in result["notes"])
        errors[method] = error(out, model, samples)
    plain = tmp_path / "plain.onnx"
    assert cli("quantize", model, plain, *common[:-2]).code == 0
    for method in errors:
        assert errors[method] < error(plain, model, samples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--outliers", "digits"), "fp32 activations are not rounded to integers"),
        (("--outliers", "best", "--activation", "int8"), "unknown method 'best' for outliers"),
        (("--outliers", "auto", "--activation", "int8:token"), "give samples of its inputs"),
    ],
)
def test_refusals(
    cli: Callable[..., Ran], files: tuple[Path, Path], words: tuple[str, ...], message: str
) -> None:
    ran = cli("quantize", files[0], files[0].with_name("out.onnx"), *words)
    assert ran.code == 2 and message in " ".join(ran.err.split())
    assert not files[0].with_name("out.onnx").exists()
