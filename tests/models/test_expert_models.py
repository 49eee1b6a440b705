"""A mixture of experts: its experts are sites, compiled, and only the chosen ones are read."""

from __future__ import annotations

from pathlib import Path

import families
import numpy as np
import pytest
import torch
import transformers as hf

from ladder.ir import facts
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions
from ladder.passes.infra.patterns import Rule
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.compile import compile_model
from ladder.pipeline.phases import round_weights
from ladder.pipeline.sources import load_source
from ladder.pipeline.steps import put_types
from ladder.reference import ReferenceLanguageModel
from ladder.runtime import load
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.kernels, pytest.mark.models]
SIZES = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16}
ALONE = "model.layers.0.mlp.experts.3.gate_up_proj"
TOKENS = list(range(3, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four experts, of which a token chooses two; their inner size is one tile."""
    config = families.config("Mixtral", families.GROUPED, families.LOCAL, SIZES)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("experts") / "m"
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_experts_are_sites(folder: Path) -> None:
    sites, refusals = find_sites(load_source(folder).model)
    found = {site.name: (site.role, site.n, site.k) for site in sites if site.experts[1] > 1}
    stacks = {
        f"model.layers.{layer}.mlp.experts.{name}": (role, 4 * n, 64)
        for layer in (0, 1)
        for name, role, n in (("gate_up_proj", "moe.gate_up", 128), ("down_proj", "moe.down", 64))
    }
    assert found == stacks
    assert refusals == []
    routers = [site.name for site in sites if site.role == "moe.router"]
    assert routers == ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"]


def test_an_artifact_computes_what_its_rounded_graph_does(folder: Path, tmp_path: Path) -> None:
    options = CompileOptions(
        activation="fp32", keep=("moe.router",),
        rules=(Rule.parse("moe.*=int4:g32"), Rule.parse(f"{ALONE}=int8:row")),
        context=48, chunk=16, target="x86-64", kv_type="fp32", rounding="mse",
    )  # fmt: skip
    report = compile_model(folder, tmp_path / "a", options).report
    types = {row["name"]: row["type"] for row in report.sites if row["role"].startswith("moe.")}
    assert types.pop(ALONE) == "int8:row"
    assert {t for n, t in types.items() if "experts" in n} == {"int4:g32"}
    (note,) = (note for note in report.notes if "active" in note)
    every = sum(row["n"] * row["k"] for row in report.sites)
    active = every - 2 * 2 * 64 * (128 + 64)
    assert (
        note == f"{active} of {every} weights are active for a token: 2 of 4 experts in each layer"
    )
    source = load_source(folder)
    graph = facts.clone(source.model)
    put_types(graph, source, options, None)
    run_passes(graph, round_weights(options))
    wanted = ReferenceLanguageModel(graph, source.states, 48).feed(TOKENS)
    model = load(tmp_path / "a")
    assert isinstance(model, LanguageModel)
    found = model.feed(TOKENS)
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-5
    model.reset()
    one_by_one = np.stack([model.step(token) for token in TOKENS])
    assert np.linalg.norm(one_by_one - wanted) / np.linalg.norm(wanted) < 1e-5
