"""Types and losses of sites as node data of Model Explorer, shown on the graph of an ONNX file.

A file without the id of a graph applies to the graph that is open. Nodes are named by their ids,
which are the names of the nodes in the ONNX file, else by the name of an output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.evaluation.explained import planned
from ladder.evaluation.heat_map import shade
from ladder.frontend.load import is_read_as_it_is
from ladder.frontend.onnx_file import load_onnx
from ladder.ir.site import find_sites
from ladder.support.files import file_aside

# The colours of the heat map, from few bits to float.
COLOURS = (
    *("#fde725", "#a5db36", "#4ac16d", "#1fa187", "#277f8e", "#365c8d", "#46327e"),
    *("#9aa5b1", "#9aa5b1"),
)
LEAST, MOST = "#ffffff", "#d73027"  # of losses
TYPES, LOSS = "types", "loss"
HINT = "write one with 'ladder opt MODEL -p clean-up -o graph.onnx' and give it with --graph"


def write_node_data(
    report: Mapping[str, Any], stem: Path, graph: Path | None
) -> tuple[list[Path], list[str]]:
    """Write ``STEM.types.json``, and ``STEM.loss.json`` if there was a plan.

    Returns the files, and the names of sites that are not in the ``graph``. Without one, it is that
    of the model of the report.
    """
    model = load_onnx(_graph(report, graph)).model
    data, missing = node_data(report, model)
    paths = []
    for kind, content in data.items():
        paths.append(stem.with_name(f"{stem.name}.{kind}.json"))
        with file_aside(paths[-1]) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return paths, missing


def _graph(report: Mapping[str, Any], graph: Path | None) -> Path:
    path = graph or Path(report["model"])
    if not is_read_as_it_is(path):
        raise LadderError(f"{path}: Model Explorer shows the graph of an ONNX file; {HINT}")
    return path


def node_data(
    report: Mapping[str, Any], model: ir.Model
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Kind -> node data, and the sites of the report that the model does not have."""
    nodes = {site.name: site.node for site in find_sites(model)[0]}
    rows = {row["name"]: row for row in report["sites"]}
    keys = {name: _key(nodes[name]) for name in rows if name in nodes}
    if not keys:
        raise LadderError(f"the graph has none of the sites of the artifact; {HINT}")
    costs = planned(report)
    losses = {
        key: {"value": costs[name][rows[name]["type"]]["loss"]}
        for name, key in keys.items()
        if rows[name]["type"] in costs.get(name, {})
    }
    types = {
        key: {"value": rows[name]["type"], "bgColor": COLOURS[shade(rows[name])]}
        for name, key in keys.items()
    }
    data: dict[str, dict[str, Any]] = {TYPES: {"results": types}}
    if losses:
        stops = [{"stop": 0, "bgColor": LEAST}, {"stop": 1, "bgColor": MOST}]
        data[LOSS] = {"results": losses, "gradient": stops}
    return data, [name for name in rows if name not in nodes]


def _key(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)
