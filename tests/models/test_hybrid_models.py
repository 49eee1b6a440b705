"""State-space and hybrid models: sites are planned and compiled, the recurrence stays float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hybrid import TOKENS, VOCABULARY, Logits, falcon_h1, mamba, mamba2

import ladder
import ladder.runtime
from ladder.frontend.types import Source
from ladder.ir.site import find_sites
from ladder.passes.clean_up import CleanUp
from ladder.passes.infra.runner import run_passes
from ladder.reference import Reference
from ladder.runtime.session import Session

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("hybrid")]

TYPES = ("int2:g32", "int4:g32", "int8:row")
ROLES = {
    mamba: {"in_proj", "x_proj", "dt_proj", "out_proj"},
    mamba2: {"in_proj", "out_proj"},
    falcon_h1: {"in_proj", "out_proj"},
}


def traced(make: Callable[[], Any]) -> Source:
    torch.manual_seed(0)
    return ladder.load(Logits(make()), (torch.arange(TOKENS)[None],), input_names=["ids"])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "ids.npz"
    np.savez(path, ids=np.random.default_rng(0).integers(0, VOCABULARY, (3, 1, TOKENS)))
    return path


@pytest.mark.parametrize("make", ROLES, ids=lambda make: make.__name__)
def test_a_plan(make: Callable[[], Any], samples: Path, tmp_path: Path) -> None:
    """From torch and from a file; everything except products with weights is unchanged."""
    source = traced(make)
    asked: dict[str, Any] = {"types": TYPES, "bpw": 5.5, "calib": samples}
    report = ladder.plan(source, tmp_path / "plan.toml", **asked)
    roles = {text.partition(":")[0] for text in report["reasons"].values()}
    assert {f"mamba.{part}" for part in ROLES[make]} <= roles
    assert len(set(report["plan"].values())) > 1
    assert 0 < report["measured"]["mse"] <= report["measured"]["uniform_mse"]
    assert report["measured"]["mse"] == pytest.approx(report["predicted"]["loss"], rel=1)
    cleaned = run_passes(source.model.clone(), [CleanUp()])
    sites, alone = find_sites(cleaned)
    assert set(report["plan"]) == {site.name for site in sites}
    assert {site.node.op_type for site in sites} <= {"Gather", "MatMul", "Gemm", "Conv"}
    assert all("computed, not a constant weight" in refusal.reason for refusal in alone)
    ir.save(source.model, tmp_path / "model.onnx")
    again = ladder.plan(tmp_path / "model.onnx", **asked)
    assert again["plan"] == report["plan"]


@pytest.mark.kernels
def test_a_plan_is_compiled_and_exported(samples: Path, tmp_path: Path) -> None:
    """The loss of the artifact equals that of the plan, except for rounded activations."""
    source = traced(mamba2)
    ir.save(source.model, tmp_path / "model.onnx")
    asked: dict[str, Any] = {"types": TYPES, "bpw": 5.5, "calib": samples}
    report = ladder.compile(tmp_path / "model.onnx", tmp_path / "out", **asked)
    feeds = {"ids": np.load(samples)["ids"][0]}
    name = source.model.graph.outputs[0].name or ""
    wanted = Reference(source.model).run(feeds)[name]
    session = ladder.runtime.load(tmp_path / "out")
    assert isinstance(session, Session)
    found = session.run(feeds)[name]
    error = float(((found - wanted) ** 2).mean())
    measured = report["plan"]["measured"]["mse"]
    assert 0.2 * measured < error < 5 * measured
    result = ladder.export_onnx(tmp_path / "model.onnx", tmp_path / "small.onnx", **asked)
    assert {s["role"] for s in result["sites"]} >= {"mamba.in_proj", "mamba.out_proj"}
