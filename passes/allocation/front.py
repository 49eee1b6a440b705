"""The Pareto front: the least loss for each of many budgets, every point solved exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.passes.allocation.problem import Picks, Problem, Totals
from ladder.passes.allocation.solve import minimise
from ladder.support.progress import track

POINTS = 32


@dataclass(frozen=True)
class Point:
    """One plan of a front."""

    picks: Picks
    totals: Totals


def front(problem: Problem, axis: str, points: int = POINTS) -> list[Point]:
    """Plans with the least loss along ``bits`` or ``seconds``, cheapest first.

    The budgets lie evenly between the cheapest plan and the cheapest of the least loss; those of
    the uniform plans are among them, so that each uniform plan has a point to be held against.
    """
    found: dict[Picks, Point] = {}
    for budget in track(_budgets(problem, axis, points), f"front of loss and {axis}"):
        picks = minimise(problem.parts, {"loss": 1.0}, {axis: budget})
        if picks is not None:
            found[picks] = Point(picks, problem.totals(picks))
    ordered = sorted(found.values(), key=lambda p: (_along(p.totals, axis), p.totals.loss))
    best: list[Point] = []
    for point in ordered:
        if not best or point.totals.loss < best[-1].totals.loss:
            best.append(point)
    return best


def _budgets(problem: Problem, axis: str, points: int) -> list[float]:
    least = problem.least(axis)
    finest = minimise(problem.parts, {"loss": 1.0}, {})
    assert finest is not None
    most = _sum(problem, finest, axis)
    even = [least + (most - least) * i / (points - 1) for i in range(points)]
    uniform = [_sum(problem, problem.uniform(type), axis) for type in problem.types]
    return sorted({*even, *(u for u in uniform if least <= u <= most)})


def _sum(problem: Problem, picks: Picks, axis: str) -> float:
    return sum(p.options[i].along(axis) for p, i in zip(problem.parts, picks, strict=True))


def _along(totals: Totals, axis: str) -> float:
    return totals.bytes if axis == "bits" else totals.seconds
