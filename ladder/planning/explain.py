"""What a plan keeps so that a report can explain it: candidates, the front, and the limits."""

from __future__ import annotations

from ladder.passes.allocation.axes import AXES, BITS_PER_WEIGHT, LATENCY, LOSS, SIZE
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import limits_of
from ladder.passes.allocation.front import front
from ladder.passes.allocation.problem import Option, Problem

POINTS = 16  # plans of a front in a picture


def candidates_of(problem: Problem) -> dict[str, dict[str, dict[str, float]]]:
    """What each type costs a weight: ``loss``, ``bytes``, and ``seconds`` if they were measured."""
    return {
        part.names[0]: {option.type: _costs(problem, option) for option in part.options}
        for part in problem.parts
    }


def _costs(problem: Problem, option: Option) -> dict[str, float]:
    shown = (LOSS, SIZE, LATENCY) if problem.timed else (LOSS, SIZE)
    return {axis.key: option.along(axis.counted) / axis.per(problem) for axis in shown}


def fronts_of(problem: Problem) -> dict[str, list[list[float]]]:
    """By axis, the best plans that there are: [value on the axis, loss] of each."""
    drawn = [axis for axis in AXES if axis.front and (problem.timed or not axis.timed)]
    return {
        axis.key: [[p.totals[axis.key], p.totals[LOSS.key]] for p in front(problem, axis, POINTS)]
        for axis in drawn
    }


def limits(problem: Problem, budget: Budget) -> dict[str, float]:
    """The limits of a budget by axis, as they were asked for."""
    return {limit.axis.key: limit.value for limit in limits_of(problem, budget)}


def bounds(problem: Problem, budget: Budget) -> dict[str, float]:
    """Where pictures draw limits on axes: one on the bits per weight is a size too."""
    found = limits(problem, budget)
    if SIZE.key not in found and BITS_PER_WEIGHT.key in found:
        bits = BITS_PER_WEIGHT.bound(problem, found[BITS_PER_WEIGHT.key])
        found[SIZE.key] = SIZE.total(problem, bits)
    return found
