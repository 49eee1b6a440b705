"""Cache entries of artifacts: one for each model and types, whatever the plan's name is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from small_graphs import graph, random

from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model
from ladder.pipeline.plan_file import Plan, write_plan
from ladder.pipeline.sources import load_source
from ladder.support import cache

pytestmark = pytest.mark.kernels
MATMUL = """g (float[3, 64] x) => (float[3, 64] y) {
  a = MatMul(x, "up.weight")
  y = MatMul(a, "down.weight")
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = {"up.weight": random(64, 96), "down.weight": random(96, 64)}
    onnx.save(graph(MATMUL, weights), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def entries() -> int:
    return len(list((cache.cache_folder() / "artifacts").glob("*/manifest.json")))


def test_plans_with_the_same_types_share_an_entry(model: Path, tmp_path: Path) -> None:
    """The artifact has the name and the report of its plan; the cache's entry has neither."""
    sites = {"up": DType.parse("int4:g32"), "down": DType.parse("fp32")}
    digest = load_source(model).digest
    first = Plan("a", digest, sites, measured={"seconds": 1.5})
    second = replace(first, origin="b", measured={"seconds": 2.5})
    reports, before = [], entries()
    for name, plan in (("one.toml", first), ("two.toml", second)):
        write_plan(tmp_path / name, plan)
        options = CompileOptions(plan=tmp_path / name, target="x86-64")
        reports.append(compile_model(model, tmp_path / f"{name}.out", options).report)
    assert entries() == before + 1
    for report, name, seconds in zip(reports, ("one.toml", "two.toml"), (1.5, 2.5), strict=True):
        reasons = {row["name"]: row["reason"] for row in report["sites"]}
        assert reasons == {"up": f"plan {name}", "down": f"kept by plan {name}"}
        assert report["skipped"] == [{"name": "down", "reason": f"kept by plan {name}"}]
        assert report["plan"]["measured"] == {"seconds": seconds}


def test_other_types_are_another_entry(model: Path, tmp_path: Path) -> None:
    before = entries()
    for number, type in enumerate(("int4:g32", "int8:row")):
        options = CompileOptions(type=DType.parse(type), target="x86-64")
        compile_model(model, tmp_path / f"{number}", options)
    assert entries() == before + 2
