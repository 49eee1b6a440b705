"""The Pareto front: the least loss for each of many budgets, every point solved exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.passes.allocation.axes import LOSS, Axis
from ladder.passes.allocation.problem import Picks, Problem, Totals
from ladder.passes.allocation.solve import minimise
from ladder.support.progress import track

POINTS = 32


@dataclass(frozen=True)
class Point:
    """One plan of a front."""

    picks: Picks
    totals: Totals


def front(problem: Problem, axis: Axis, points: int = POINTS) -> list[Point]:
    """Plans with the least loss along an axis, cheapest first.

    The budgets are evenly spaced between the cheapest plan and the cheapest plan with the least
    loss. The costs of the uniform plans are added, so that each has a point to compare with.
    """
    found: dict[Picks, Point] = {}
    for budget in track(_budgets(problem, axis, points), f"front of loss and {axis.name}"):
        picks = minimise(problem.parts, {LOSS.counted: 1.0}, {axis.counted: budget})
        if picks is not None:
            found[picks] = Point(picks, problem.totals(picks))
    ordered = sorted(found.values(), key=lambda p: (p.totals[axis.key], p.totals[LOSS.key]))
    best: list[Point] = []
    for point in ordered:
        if not best or point.totals[LOSS.key] < best[-1].totals[LOSS.key]:
            best.append(point)
    return best


def _budgets(problem: Problem, axis: Axis, points: int) -> list[float]:
    least = problem.least(axis.counted)
    finest = minimise(problem.parts, {LOSS.counted: 1.0}, {})
    assert finest is not None
    most = problem.sum(finest, axis.counted)
    even = [least + (most - least) * i / (points - 1) for i in range(points)]
    uniform = [problem.sum(problem.uniform(type), axis.counted) for type in problem.types]
    return sorted({*even, *(u for u in uniform if least <= u <= most)})
