"""Random graphs through ``quantize`` and ``compile`` against ONNX Runtime.

``make fuzz`` runs more. A fault prints the smallest graph that has it.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest

from fuzz import graphs
from fuzz.graphs import Case, run, shrunk
from fuzz.random_graphs import KINDS, Drawn, draw

pytestmark = pytest.mark.fuzz
QUANTIZED, COMPILED = 488, 12
LONGEST = 600.0  # seconds


def test_random_graphs_are_quantized() -> None:
    said, faults = run(0, QUANTIZED, time.monotonic() + LONGEST, compiled=False)
    assert not faults, "\n\n".join(faults)
    assert said["same"] > 0.7 * QUANTIZED and said["refused"] < 0.02 * QUANTIZED, said
    assert said.total() == QUANTIZED


@pytest.mark.kernels
def test_random_graphs_are_compiled() -> None:
    said, faults = run(0, COMPILED, time.monotonic() + LONGEST, compiled=True)
    assert not faults, "\n\n".join(faults)
    assert said["same"] > 0.7 * COMPILED and said.total() == COMPILED, said


def test_a_fault_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Tanh computes something else, a graph of Tanh alone is what remains."""

    def wrong(case: Case, model: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path
              ) -> list[np.ndarray]:  # fmt: skip
        for node in model.graph.node:
            node.op_type = node.op_type.replace("Tanh", "Sigmoid")
        return graphs.original(model, feeds)

    monkeypatch.setattr(graphs, "through", wrong)
    _, faults = run(0, 40, time.monotonic() + LONGEST, compiled=False)
    assert faults and all("Tanh" in fault for fault in faults)
    found = next(drawn for drawn in map(_drawn, range(99)) if "Tanh" in _operators(drawn.nodes))
    nodes, outputs = shrunk(Case("quantize", "int8:row", "qdq"), found)
    assert _operators(nodes).count("Tanh") == 1 and len(nodes) <= 3 and len(outputs) == 1


def _drawn(seed: int) -> Drawn:
    return draw(Random(seed), 12, KINDS)


def _operators(nodes: list[onnx.NodeProto]) -> list[str]:
    return [node.op_type for node in nodes]
