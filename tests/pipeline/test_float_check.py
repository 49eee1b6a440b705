"""A compiled float graph that differs from ONNX Runtime is refused, with the operator's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import Arrays, graph, random
from tvm import relax

from ladder.codegen.converters import CONVERTERS
from ladder.codegen.float_graph import FloatGraphs
from ladder.errors import LadderError, refusals
from ladder.frontend.load import load
from ladder.frontend.types import Source
from ladder.hardware.targets import native_level
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.float_check import check
from ladder.pipeline.float_check.differences import LIMIT, difference
from ladder.pipeline.phases import PREPARE

pytestmark = pytest.mark.kernels
WEIGHTS = {"w": random(64, 48), "v": random(48, 32)}
MODEL = """g (float[t, 64] x) => (float[t, 32] y) {
    a = MatMul (x, w)
    b = Softplus (a)
    m = MatMul (b, v)
    y = Softmax <axis = -1> (m)
}"""


def source_of(text: str, folder: Path, weights: Arrays = WEIGHTS, opset: int = 21) -> Source:
    onnx.save(graph(text, weights, opset), folder / "model.onnx")
    return load(folder / "model.onnx")


def checked(source: Source, dims: str = "") -> dict[str, Any]:
    model: ir.Model = facts.clone(source.model)
    run_passes(model, (*PREPARE, AllocateUniform(DType.parse("int8:row"))))
    return check.check_float(model, source, dims)


def test_a_right_model_has_its_error_in_the_report(tmp_path: Path) -> None:
    found = checked(source_of(MODEL, tmp_path), "t:3")
    assert found["reason"] == "" and 0 < found["error"] < 1e-5


def test_a_wrong_operator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Softplus", lambda context, inputs, *_: relax.op.exp(inputs[0]))
    with pytest.raises(LadderError, match="differs from ONNX Runtime: Softplus 'b' by"):
        checked(source_of(MODEL, tmp_path), "t:4")


def test_the_result_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(MODEL, tmp_path)
    first = checked(source, "t:3")
    monkeypatch.setattr(check, "_check", None)
    assert checked(source, "t:3") == first


RESIZED = """g (float[1, 2, 5, 64] x) => (float[1, 2, 10, 48] y) {
    h = MatMul (x, w)
    y = Resize <mode = "linear", coordinate_transformation_mode = "tf_half_pixel_for_nn">
        (h, roi, scales)
}"""


def test_a_mode_that_tvm_computes_otherwise_is_refused(tmp_path: Path) -> None:
    scales = np.array([1, 1, 2, 1], np.float32)
    weights = {"w": WEIGHTS["w"], "roi": scales[:0], "scales": scales}
    source = source_of(RESIZED, tmp_path, weights, opset=11)
    with pytest.raises(LadderError, match=r"model\.onnx: .*: Resize 'y' by .*; .*--no-check"):
        checked(source)


STEPS = """g (float[8, 64] x) => (float[8, 48] y) {
    a = MatMul (x, w)
    b = Tanh (a)
    c = Exp (b)
    d = Mul (c, large)
    e = Floor (d)
    y = Sub (d, e)
}"""


CUBIC = """g (float[1, 1, 4, 64] x) => (float[1, 1, 8, 48] y) {
    a = MatMul (x, w)
    y = Resize <mode = "cubic", coordinate_transformation_mode = "half_pixel_symmetric"> (a, , s)
}"""


def test_an_operator_that_tvm_cannot_compile_is_named(tmp_path: Path) -> None:
    weights = {"w": WEIGHTS["w"], "s": np.array([1, 1, 2, 1], np.float32)}
    source = source_of(CUBIC, tmp_path, weights)
    with pytest.raises(LadderError, match=r"TVM cannot compile Resize 'y' .*; 'ladder quantize'"):
        checked(source)
    with pytest.raises(LadderError, match=r"^tvm cannot take this input: .*pixel_symm"), refusals():
        FloatGraphs({"main": source.model}, native_level())


def test_float_error_that_steps_enlarge_is_no_fault(tmp_path: Path) -> None:
    """Each operator alone is right; the last digit of one decides on a step of another."""
    source = source_of(STEPS, tmp_path, {**WEIGHTS, "large": np.array(1e5, np.float32)})
    assert checked(source)["error"] > LIMIT


SHIFTED = """g (int64[3] ids, float[2, 64] x) => (float[3, 48] z, float[2, 48] y) {
    far = Sub (ids, thousand)
    z = Gather (table, far)
    y = MatMul (x, w)
}"""


def test_what_no_random_input_fits_is_reported(tmp_path: Path) -> None:
    tables = {"table": random(8, 48), "thousand": np.array(1000)}
    found = checked(source_of(SHIFTED, tmp_path, {**WEIGHTS, **tables}))
    assert found["error"] is None
    assert found["reason"].startswith("ONNX Runtime does not run it") and "idx" in found["reason"]


def test_differences_are_parts_of_the_largest_value() -> None:
    wanted = np.array([4.0, 0.0, np.inf, np.nan], np.float32)
    assert difference(wanted, wanted) == 0
    assert difference(np.array([4, 1, 0, 0], np.float32), wanted) == 0.25
    assert difference(np.array([np.nan, 0, 0, 0], np.float32), wanted) == np.inf
    assert difference(wanted[:2], wanted) == np.inf
    assert difference(np.array([1e-9]), np.array([0.0])) == np.inf
