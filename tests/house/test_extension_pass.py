"""A pass is a file, a row of the registry and a line of the phases: no other file names it."""

from __future__ import annotations

import ast

import pytest
from sources import ROOT, own_modules

from ladder.passes.infra.registry import PASSES

PHASES = "ladder/pipeline/phases.py"
# Passes that are run outside of phases: on one weight or value, or between two phases on data.
ELSEWHERE = {
    "allocate-uniform": {"ladder/calibration/outliers.py"},  # types for what is measured
    "mux-outliers": {"ladder/calibration/outliers.py"},
    "round-weights": {"ladder/plugin/model.py", "ladder/plugin/rounding.py"},
    "lower-types": {"ladder/export/integers.py", "ladder/peers/own.py"},
    "clean-up": {"passes/bind_shapes.py", "passes/expand_operators.py"},
}
SEARCHED = ("measure-sensitivity", "allocate-bits")  # run by name alone, from pipeline texts


def importers(module: str, name: str) -> set[str]:
    """The files that import ``name`` from ``module``."""
    return {
        str(path.relative_to(ROOT))
        for path in own_modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == module
        and any(alias.name == name for alias in node.names)
    }


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_a_file_a_row_and_a_line(name: str) -> None:
    module, _, attribute = PASSES[name].partition(":")
    wanted = set() if name in (*SEARCHED, "mux-outliers") else {PHASES}
    found = importers(module, attribute) - {"ladder/plugin/pipeline.py"}  # steps of its own there
    assert found == wanted | ELSEWHERE.get(name, set())
