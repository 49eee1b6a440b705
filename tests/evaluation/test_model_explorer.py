"""Node data of Model Explorer: keys are names of nodes, values are types and losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.evaluation.model_explorer import node_data
from ladder.ir.site import find_sites

NET = """g (float[M, 64] x) => (float[M, 32] y) {
  [up_node] h = MatMul(x, "up.weight")
  y = MatMul(h, "down.weight")
}"""


@pytest.fixture
def model() -> ir.Model:
    weights = {"up.weight": random(64, 96), "down.weight": random(96, 32)}
    made: ir.Model = ir.from_proto(graph(NET, weights))
    return made


def report(model: ir.Model) -> dict[str, Any]:
    names = [site.name for site in find_sites(model)[0]]
    rows = [{"name": name, "type": "int4:g32", "bits": 5.0} for name in (*names, "elsewhere")]
    costs = {names[0]: {"int4:g32": {"loss": 0.25}, "int8:row": {"loss": 0.0}}}
    return {"sites": rows, "plan": {"candidates": costs}}


def test_types_and_losses_by_node(model: ir.Model) -> None:
    data, missing = node_data(report(model), model)
    types, losses = data["types"]["results"], data["loss"]["results"]
    assert set(types) == {"up_node", "y"} and missing == ["elsewhere"]
    assert types["y"]["value"] == "int4:g32" and types["y"]["bgColor"].startswith("#")
    assert losses == {"up_node": {"value": 0.25}}
    assert [stop["stop"] for stop in data["loss"]["gradient"]] == [0, 1]


def test_without_a_plan_there_are_no_losses(model: ir.Model) -> None:
    assert set(node_data({**report(model), "plan": None}, model)[0]) == {"types"}


def test_another_graph(model: ir.Model) -> None:
    with pytest.raises(LadderError, match="has none of the sites of the artifact; write one with"):
        node_data({"sites": [{"name": "a", "type": "int4:g32"}]}, model)


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_a_language_model(
    cli: Callable[..., Any], tiny_planned: Path, tiny_chat_folder: Path, tmp_path: Path
) -> None:
    """Its graph is written by 'ladder opt', with its weights, and every site is on it."""
    path, stem = tmp_path / "graph.onnx", tmp_path / "data"
    refused = cli("report", tiny_planned, "--model-explorer", stem)
    assert refused.code == 2 and "'ladder opt MODEL -p clean-up -o graph.onnx'" in refused.err
    assert cli("opt", tiny_chat_folder, "-p", "clean-up", "-o", path).code == 0
    onnx.checker.check_model(str(path))
    words = ["--model-explorer", stem, "--graph", path, "-o", tmp_path / "report.html"]
    ran = cli("report", tiny_planned, *words, "--json")
    assert ran.code == 0 and "not in the graph" not in ran.err, ran

    names = {node.name for node in onnx.load(path).graph.node}
    for kind, count in (("types", 16), ("loss", 15)):
        found = json.loads((tmp_path / f"data.{kind}.json").read_text())["results"]
        assert set(found) <= names and len(found) == count
    alone = cli("report", tiny_planned, "--graph", path)
    assert alone.code == 2 and "--graph" in alone.err
