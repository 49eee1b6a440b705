"""Plans whose scores are scaled by longer windows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ladder
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.options.requests import PlanOptions
from ladder.passes.infra.patterns import Rule
from ladder.planning.inputs import sensitivity_of
from ladder.planning.make import plan_model

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]

TYPES = ("int2:g32", "int4:g32", "int8:row")
WORDS = "The quick brown fox jumps over the lazy dog; and so it goes on.\n"


@pytest.fixture
def options(tmp_path: Path) -> PlanOptions:
    text = tmp_path / "words.txt"
    text.write_text(WORDS * 50)
    return PlanOptions(
        bpw="4",
        types=tuple(map(DType.parse, TYPES)),
        calib=text,
        windows=3,
        tokens=8,
        rounding="mse",
    )


def test_scores_are_scaled_by_the_long_windows(
    tiny_chat_folder: Path, options: PlanOptions, tmp_path: Path
) -> None:
    source = ladder.load(tiny_chat_folder)
    state = tmp_path / "s.jsonl"
    short = sensitivity_of(source, options)
    found = sensitivity_of(source, replace(options, long_tokens=24, state=state))
    whole = sensitivity_of(source, replace(options, tokens=24))
    for site, row in found.scores.items():
        assert row["int4:g32"]["kl"] == pytest.approx(whole.scores[site]["int4:g32"]["kl"])
        ratio = short.scores[site]["int2:g32"]["kl"] / short.scores[site]["int4:g32"]["kl"]
        assert row["int2:g32"]["kl"] / row["int4:g32"]["kl"] == pytest.approx(ratio)
    long = [json.loads(line) for line in (tmp_path / "s.jsonl.24").read_text().splitlines()]
    assert {line["type"] for line in long[1:]} == {"int4:g32"}


def test_the_plan_is_run_on_the_long_windows(tiny_chat_folder: Path, options: PlanOptions) -> None:
    long = replace(options, long_tokens=24)
    report = plan_model(tiny_chat_folder, long).report
    fixed = [Rule(site, DType.parse(type)) for site, type in report["plan"].items()]
    same = plan_model(tiny_chat_folder, replace(options, tokens=24, rules=tuple(fixed))).report
    assert report["measured"]["kl"] == pytest.approx(same["measured"]["kl"])
    assert "scaled by int4:g32 on 72 tokens" in report["text"]


def test_samples_are_refused(tiny_chat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="--long-tokens 128: give more than --tokens 128, or 0"):
        PlanOptions(bpw="3", long_tokens=128).check()
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2), np.float32))
    options = PlanOptions(bpw="3", long_tokens=256, calib=tmp_path / "x.npz")
    with pytest.raises(LadderError, match="--long-tokens 256 is for language models and text"):
        plan_model(tiny_chat_folder, options)
