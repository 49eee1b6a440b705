"""An option that means nothing for a kind of model is refused, and not reported as assumed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from small_graphs import graph, random

import ladder
from ladder.errors import LadderError
from ladder.options.requests import CompileOptions
from ladder.options.schema import refuse_inapplicable

MATMUL = "g (float[M, 64] x) => (float[M, 40] y) { y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("options", "language_model", "message"),
    [
        ({"dims": ("tokens=4",)}, True, "--dim tokens=4: .* not language models.*m is a language"),
        ({"context": 64}, False, "--context 64: leave it out; it is for language models, .* no"),
        ({"chunk": 8}, False, "--chunk 8: .* for language models"),
        ({"kv_type": "fp32"}, False, "--kv-type fp32: .* for language models"),
    ],
)
def test_refusals(options: dict[str, object], language_model: bool, message: str) -> None:
    given = CompileOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(LadderError, match=message):
        refuse_inapplicable(given, language_model, "m")
    refuse_inapplicable(given, not language_model, "m")


def test_an_onnx_model_has_no_windows(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(graph(MATMUL, {"w": random(64, 40)}), path)
    with pytest.raises(LadderError, match="--windows 7: leave it out"):
        ladder.export_onnx(path, tmp_path / "out.onnx", windows=7)
    with pytest.raises(LadderError, match="--tokens 7: leave it out"):
        ladder.export_onnx(path, tmp_path / "out.onnx", tokens=7)
    assert not (tmp_path / "out.onnx").exists()


def test_what_does_not_apply_is_not_assumed() -> None:
    assert not {"context", "chunk", "kv_type"} & set(CompileOptions().assumed(False))
    assert {"context", "chunk", "kv_type"} <= set(CompileOptions().assumed(True))
    assert "dims" not in CompileOptions().assumed(True)
