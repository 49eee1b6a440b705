"""``ladder plan --dry-run``: sizes by arithmetic, nothing is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_graphs import graph, random

from ladder.ir.dtype import DType
from ladder.planning import make

TYPES = ("int4:g32", "int2:g64", "int8:row")
SHAPES = {"up.weight": (64, 96), "down.weight": (96, 32)}
NET = """g (float[M, 64] x) => (float[M, 32] y) {
  h = MatMul(x, "up.weight")
  y = MatMul(h, "down.weight")
}"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    weights = {name: random(*shape) for name, shape in SHAPES.items()}
    onnx.save(graph(NET, weights), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def size(type: str, *names: str) -> float:
    """Bytes of some weights in a type, from its definition."""
    return sum(DType.parse(type).stored_bits(SHAPES[n][1], SHAPES[n][0]) for n in names) / 8


def test_sizes(cli: Callable[..., Any], net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(make, "sensitivity_of")  # what is not called cannot measure
    words = ["plan", net, "--dry-run", "--types", ",".join(TYPES), "--rule", "down=int8:row"]
    found = cli(*words, "--json").json
    fixed = size("int8:row", "down.weight")
    others = found["uniform"]["int8:row"]["bytes"] - size("int8:row", *SHAPES)
    assert others >= 0
    for type in TYPES:
        assert found["uniform"][type]["bytes"] == size(type, "up.weight") + fixed + others
    assert found["least"] == found["uniform"]["int2:g64"]
    assert found["most"] == found["uniform"]["int8:row"]
    shown = cli(*words, "--bpw", "6", "--max-kl", "1").out
    assert "the smallest plan" in shown and "the largest plan" in shown
    assert "--bpw can be met" in shown and "--max-kl: known once a plan is measured" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bpw", "1"], "--bpw 1 cannot be met: the least reachable is"),
        (["-o", "plan.toml"], "-o plan.toml: --dry-run makes no plan; leave out one of them"),
        (["--picture", "a.svg"], "--picture a.svg: --dry-run makes no plan"),
        (["--types", "int4:g32"], "--types: int4:g32 leaves nothing to choose"),
    ],
)
def test_refusals(cli: Callable[..., Any], net: Path, words: list[str], message: str) -> None:
    ran = cli("plan", net, "--dry-run", *words)
    assert ran.code == 2 and message in ran.err
