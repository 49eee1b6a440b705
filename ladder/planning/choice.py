"""Choose the plan for a budget by prediction, then correct it by measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ladder.blockwise.weights import Group, Rounder
from ladder.calibration.calibrate import hessians_of, pre_rounded_of
from ladder.calibration.data import Data
from ladder.calibration.requested_data import long_data_of
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.facts import Hessians
from ladder.options.requests import PlanOptions
from ladder.passes.allocation.axes import LATENCY, LOSS
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.passes.rounding.methods import find_method
from ladder.passes.rounding.pre_rounded import load_outcome
from ladder.planning.evaluate_plan import PlanEvaluator, RounderOf
from ladder.planning.latency import hold
from ladder.planning.refine import refine
from ladder.planning.times import decode_options, decode_seconds, decodes_here

TIGHTENED = 3  # how often a KL limit is tightened when the real run exceeds it
MARGIN = 0.98  # a tightened limit aims at this share of the limit asked for
SUMS = 0.25  # relative error of the predicted loss above which a note calls it unreliable


@dataclass
class Chosen:
    """A choice, the problem (with the times) that it solves, and what was measured of it."""

    problem: Problem
    found: Allocated
    notes: list[str]
    measured: dict[str, Any] = field(default_factory=dict)


def choose_plan(
    source: Source, options: PlanOptions, problem: Problem, budget: Budget, notes: list[str]
) -> Chosen:
    """The allocation, checked by real runs: never worse than the best uniform plan that fits."""
    chosen = Chosen(problem, allocate(problem, budget), notes)
    if not options.verify:
        notes.append("the plan was not run: its loss is only predicted")
        return chosen
    if budget.limit(LATENCY) is not None and decodes_here(source, options):
        _in_time(source, options, chosen, budget)

    if (stand_in := find_method(options.rounding).planned_as) != options.rounding:
        notes.append(
            f"the plan was run with '{stand_in}' rounding; compiling it continues from there "
            f"with '{options.rounding}'"
        )
    data, hessians = long_data_of(source, options), hessians_of(source, options)
    alone = RoundedWeights(source, options.rounding, hessians)
    rounder_of = _rounder_of(source, options, alone, hessians)
    check = PlanEvaluator(
        source.model, chosen.problem, data.feeds, rounder_of, source.is_language_model
    )
    _within_kl(check, chosen, budget)
    if budget.goal == LOSS.counted and not budget.prefer:
        _check_sum(chosen, options)
        if options.refine:
            _refine(source, data, check, alone, chosen, budget, options)
    if budget.goal == LOSS.counted and not budget.prefer and chosen.found.fitting:
        _no_worse_than_uniform(check, chosen)
    return chosen


def _rounder_of(
    source: Source, options: PlanOptions, alone: Rounder, hessians: Hessians | None
) -> RounderOf:
    """How the options round a plan's weights: each alone, or all in the model's order."""

    method = find_method(options.rounding)

    def rounder(types: Mapping[str, DType]) -> Rounder:
        if not method.needs.model or hessians is None:
            return alone
        evaluated = replace(options, rounding=method.planned_as)
        done = pre_rounded_of(source, evaluated, types, hessians)

        def rounded(group: Group, dtype: DType) -> np.ndarray:
            if group.name not in done.files:
                return alone(group, dtype)
            return group.stored(load_outcome(Path(done.files[group.name])).rounded, dtype)

        return rounded

    return rounder


def _in_time(source: Source, options: PlanOptions, chosen: Chosen, budget: Budget) -> None:
    """Time whole plans, and take the one closest to the latency asked for."""

    def seconds_of(problem: Problem, picks: Picks) -> float:
        return decode_seconds(source, problem, picks, decode_options(options))

    held = hold(chosen.problem, chosen.found, budget, seconds_of)
    chosen.problem, chosen.found = held.plan.problem, held.plan.found
    chosen.measured["seconds"] = held.plan.seconds
    if held.why:
        chosen.notes.append(
            f"a token takes {1e3 * held.plan.seconds:.3g} ms with this plan, the closest to the "
            f"target among {held.plans} plans timed: {held.why}"
        )


def _within_kl(check: PlanEvaluator, chosen: Chosen, budget: Budget) -> None:
    """Run the plan; tighten a KL limit until the run is within it, if that is possible."""
    asked, metric = budget.limit(LOSS), chosen.problem.metric
    loss = first = check.loss(chosen.found.picks)
    chosen.measured[metric] = loss
    if asked is None or loss <= asked:
        return
    limit = asked
    for _ in range(TIGHTENED):
        limit *= MARGIN * asked / loss
        try:
            chosen.found = allocate(chosen.problem, budget.limited_to(LOSS, limit))
        except LadderError:
            break
        loss = check.loss(chosen.found.picks)
        chosen.measured = {metric: loss}  # drops the time, which was measured of another plan
        if loss <= asked:
            chosen.notes.append(
                f"a predicted {asked:.4g} was measured as {first:.4g}, so the plan aims at a "
                f"predicted {limit:.4g} and is measured as {loss:.4g}"
            )
            return
    chosen.notes.append(f"--max-kl {asked:.4g} is not met: measured {loss:.4g} nats per token")


def _check_sum(chosen: Chosen, options: PlanOptions) -> None:
    """Add a note if the sum of the sites' losses is far from the plan's measured loss."""
    predicted, measured = chosen.found.totals[LOSS.key], chosen.measured[chosen.problem.metric]
    if not options.refine and abs(measured - predicted) > SUMS * predicted:
        chosen.notes.append(
            f"the sites' losses add up to {predicted:.3g}, but the plan loses {measured:.3g}: the "
            "additive prediction is unreliable here; --refine 2 measures each site again with the "
            "rest of the plan applied"
        )


def _refine(
    source: Source,
    data: Data,
    check: PlanEvaluator,
    rounder: Rounder,
    chosen: Chosen,
    budget: Budget,
    options: PlanOptions,
) -> None:
    metric, picks = chosen.problem.metric, chosen.found.picks
    first = chosen.measured[metric]
    done = refine(source.model, data, check, rounder, budget, picks, first, options.refine)
    chosen.notes.append(
        f"refined in {done.rounds} rounds ({done.steps} steps measured): the plan that was "
        f"predicted best loses {first:.4g}, the refined plan loses {done.loss:.4g}"
    )
    if done.picks == picks:
        return
    totals, status = chosen.problem.totals(done.picks), "refined by measuring around the plan"
    chosen.found = replace(chosen.found, picks=done.picks, totals=totals, status=status)
    timed = "seconds" in chosen.measured
    chosen.measured = {metric: done.loss}
    if timed:  # the time was measured of another plan
        seconds = decode_seconds(source, chosen.problem, done.picks, decode_options(options))
        chosen.measured["seconds"] = seconds
        limit = budget.limit(LATENCY)
        if limit is not None and seconds > limit:
            chosen.notes.append(f"a token takes {1e3 * seconds:.3g} ms with the refined plan")


def _no_worse_than_uniform(check: PlanEvaluator, chosen: Chosen) -> None:
    """Also run the best uniform plan that fits; take it if it is measured better."""
    problem, found, metric = chosen.problem, chosen.found, chosen.problem.metric
    loss = chosen.measured[metric]
    best = min(found.fitting, key=lambda type: found.uniform[type][LOSS.key])
    picks = problem.uniform(best)
    other = loss if picks == found.picks else check.loss(picks)
    if other < loss:
        chosen.notes.append(
            f"{best} everywhere is measured better ({other:.4g}) than the mixed plan that was "
            f"predicted best ({loss:.4g}), so it is chosen"
        )
        chosen.measured = {metric: other}  # drops the time, which was measured of another plan
        status = "measured better than the predicted best"
        chosen.found = replace(found, picks=picks, totals=problem.totals(picks), status=status)
    chosen.measured |= {"uniform": best, f"uniform_{metric}": other}
