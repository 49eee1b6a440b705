"""Refining: steps are measured with the rest of a plan applied, and improve the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ladder
from ladder.blockwise.weights import rounder
from ladder.calibration.data import Data, text_data
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Sensitivity
from ladder.ir.site import find_sites
from ladder.options.requests import PlanOptions
from ladder.passes.allocate_bits import problem_of
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.planning.evaluate_plan import PlanEvaluator
from ladder.planning.make import plan_model
from ladder.planning.refine import measure_steps, refine

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]

TYPES = ("int2:g32", "int4:g32", "int8:row")
WORDS = "The quick brown fox jumps over the lazy dog; and so it goes on.\n"
ROUNDER = rounder("mse")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(WORDS * 50)
    return path


@pytest.fixture(scope="module")
def source(tiny_chat_folder: Path) -> Source:
    return ladder.load(tiny_chat_folder)


@pytest.fixture(scope="module")
def data(source: Source, text: Path) -> Data:
    return text_data(source, text, 3, 24)


def problem(source: Source) -> Problem:
    """A problem with scores that are wrong on purpose: equal for all sites."""
    score = {t: {"kl": 1 / (i + 1)} for i, t in enumerate(TYPES)}
    scores = {site.name: score for site in find_sites(source.model)[0]}
    facts.put(source.model, Sensitivity("kl", scores))
    return problem_of(source.model)[0]


def check_of(source: Source, data: Data) -> PlanEvaluator:
    return PlanEvaluator(
        source.model, problem(source), data.feeds, lambda types: ROUNDER, logits=True
    )


def test_a_step_is_the_difference_of_two_whole_runs(source: Source, data: Data) -> None:
    check = check_of(source, data)
    count = len(check.problem.parts)
    picks: Picks = tuple(np.random.default_rng(0).integers(0, len(TYPES), count).tolist())
    loss = check.loss(picks)
    effects = measure_steps(source.model, data, check, ROUNDER, picks, loss)
    by_part = {i: [o for p, o in effects if p == i] for i in range(count)}
    assert all(len(by_part[i]) == (2 if picks[i] == 1 else 1) for i in range(count))
    for i, option in list(effects)[::3]:
        moved = (*picks[:i], option, *picks[i + 1 :])
        assert effects[i, option] == pytest.approx(check.loss(moved) - loss, abs=1e-5)


def test_it_improves_a_plan_made_from_wrong_scores(source: Source, data: Data) -> None:
    check, budget = check_of(source, data), Budget.of({"bpw": "4.5"})
    picks = allocate(check.problem, budget).picks
    loss = check.loss(picks)
    done = refine(source.model, data, check, ROUNDER, budget, picks, loss, 3)
    assert done.loss < 0.9 * loss and done.picks != picks and 1 <= done.rounds <= 3
    assert done.loss == pytest.approx(check.loss(done.picks))
    assert check.problem.totals(done.picks)["bpw"] <= 4.5


def test_a_plan_says_what_refining_gained(source: Source, text: Path) -> None:
    options = PlanOptions(
        bpw="3.5", types=tuple(map(DType.parse, TYPES)), calib=text, windows=3, tokens=24
    )
    plain = plan_model(source, options).report
    report = plan_model(source, replace(options, refine=2)).report
    assert report["measured"]["kl"] <= plain["measured"]["kl"]
    (note,) = (n for n in report["notes"] if n.startswith("refined in"))
    assert f"loses {report['measured']['kl']:.4g}" in note


def test_it_needs_runs() -> None:
    with pytest.raises(LadderError, match="--refine runs plans and --no-verify forbids it"):
        PlanOptions(bpw="3", refine=1, verify=False).check()
    with pytest.raises(LadderError, match="--refine -1: give 0 or more"):
        PlanOptions(bpw="3", refine=-1).check()
