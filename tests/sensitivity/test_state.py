"""Scores are floats, whatever numbers a file holds."""

from __future__ import annotations

import json
from pathlib import Path

from ladder.passes.measure_sensitivity import read_sensitivity
from ladder.sensitivity.state import Key, State

LARGE = 10**30  # more digits than a whole number of NumPy has


def test_scores_of_a_state(tmp_path: Path) -> None:
    key = Key("model", "text", 4, 128, "mse")
    line = {"group": "g0", "type": "int4:g32", "scores": {"kl": LARGE}}
    file = tmp_path / "state.jsonl"
    file.write_text(f"{json.dumps(vars(key))}\n{json.dumps(line)}\n")
    (scores,) = State(file, key).scores.values()
    assert scores == {"kl": 1e30} and isinstance(scores["kl"], float)


def test_scores_of_the_fact(tmp_path: Path) -> None:
    fact = {"metric": "kl", "scores": {"fc": {"int4:g32": {"kl": LARGE}}}, "text": "", "tokens": 1}
    file = tmp_path / "sensitivity.json"
    file.write_text(json.dumps(fact))
    score = read_sensitivity(file).scores["fc"]["int4:g32"]["kl"]
    assert score == 1e30 and isinstance(score, float)
