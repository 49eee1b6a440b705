"""The pass that attaches measured scores to a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.facts import Sensitivity
from ladder.ir.site import find_sites
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes

TEXT = "g (float[M, 16] x) => (float[M, 8] y) { y = MatMul(x, w) }"


def model() -> ir.Model:
    found: ir.Model = ir.from_proto(graph(TEXT, {"w": random(16, 8)}))
    return found


def fact(*names: str) -> Sensitivity:
    return Sensitivity("kl", {name: {"int4:row": {"kl": 0.5}} for name in names}, 8, "text")


def measured(path: Path, content: object) -> ir.Model:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return run_passes(model(), parse_pipeline(f"measure-sensitivity{{file={path}}}"))


def test_it_reads_what_was_measured(tmp_path: Path) -> None:
    (site,) = find_sites(model())[0]
    wanted = fact(site.name)
    found = measured(tmp_path / "s.json", dataclasses.asdict(wanted))
    assert facts.get(found, Sensitivity) == wanted
    again = measured(tmp_path / "s.json", facts.to_json(found))
    assert facts.get(again, Sensitivity) == wanted


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (site,) = find_sites(model())[0]
    other = dataclasses.asdict(fact(site.name, "other"))
    wrong = {**dataclasses.asdict(fact(site.name)), "metric": "mse"}
    for content, message in (
        (other, "has scores of 'other', which this model does not have"),
        ("{", "not a file of sensitivity scores"),
        ({"a": 1}, "not a file of sensitivity scores"),
        ({"metric": "kl"}, "the scores lack their metric 'kl'"),
        (wrong, "the scores lack their metric 'mse'"),
    ):
        with pytest.raises(LadderError, match=message):
            measured(tmp_path / "s.json", content)
    with pytest.raises(LadderError, match="no such file; measure first"):
        run_passes(model(), parse_pipeline(f"measure-sensitivity{{file={tmp_path}/none}}"))
