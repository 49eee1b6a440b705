"""Statistics of activations, compared with whole models, and how options use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.calibration.activations import KEPT_ROWS, collect_activations
from ladder.calibration.data import sample_data
from ladder.calibration.outliers import mux_outliers, provisionally_muxed
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Muxing
from ladder.ir.outliers import Activations, Outliers
from ladder.options.requests import CompileOptions, PlanOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.reference import Reference

SAMPLES, ROWS, K = 20, 16, 48
TEXT = """g (float[16, 48] x) => (float[16, 20] y) {
  n = LayerNormalization(x, gain)
  h = MatMul(n, "a.weight")
  y = MatMul(h, "b.weight")
}"""


@pytest.fixture
def source() -> Source:
    gain = np.ones(K, np.float32)
    gain[[5, 17]] = (30, 80)
    weights = {"gain": gain, "a.weight": random(K, K), "b.weight": random(K, 20)}
    return Source(ir.from_proto(graph(TEXT, weights, 23)), "small", "small")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, x=random(SAMPLES, ROWS, K, seed=2))
    return path


def test_magnitudes_and_tokens(source: Source, samples: Path, tmp_path: Path) -> None:
    x = np.load(samples)["x"]
    known = collect_activations(source, sample_data(source, {"x": x}, "x"), 1, tmp_path / "a")
    assert (known.tokens, known.text) == (SAMPLES, "x")
    whole = facts.clone(source.model)
    whole.graph.outputs.extend(v for node in whole.graph for v in node.outputs if v.name != "y")
    runs = [Reference(whole).run({"x": row}) for row in x]
    for site, value in (("a", "n"), ("b", "h")):
        seen, all_rows = np.load(known.files[site]), np.concatenate([run[value] for run in runs])
        np.testing.assert_allclose(seen[0], np.abs(all_rows).max(0), rtol=1e-5)
        assert KEPT_ROWS // 2 < len(seen) - 1 <= len(all_rows)
        distance = np.abs(seen[1:, None] - all_rows[None]).max(-1).min(1)
        assert distance.max() < 1e-4 * np.abs(all_rows).max()
        np.testing.assert_allclose(seen[1], all_rows[0], atol=1e-4)


@pytest.mark.parametrize("method", ["digits", "smooth"])
def test_a_plan_uses_outliers(source: Source, samples: Path, method: str) -> None:
    """The plan has their cost and the folded weights, before types are chosen."""
    options = PlanOptions(bpw="5", activation="int8:tensor", outliers=method, calib=samples)
    found = provisionally_muxed(source, options)
    muxing = facts.get(found.model, Muxing)
    assert muxing is not None and ("a" in muxing.sites) == (method == "digits")
    assert (found.digest != source.digest) == (method == "smooth")
    assert facts.get(found.model, BitPlan) is None and facts.get(found.model, Activations) is None


def test_nothing_asked_nothing_read(source: Source) -> None:
    """Without a text there is nothing to calibrate on, and no error."""
    model = run_passes(facts.clone(source.model), [AllocateUniform(DType.parse("int8:row"))])
    assert mux_outliers(model, source, CompileOptions(activation="int8:tensor")) is source
    assert facts.get(model, Outliers) is None
    options = PlanOptions(bpw="5")
    assert provisionally_muxed(source, options) is source
