"""``ladder plan --dry-run``: the sizes that plans can have, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ladder.frontend.types import Source
from ladder.options.requests import PlanOptions
from ladder.passes.allocate_bits import problem_by
from ladder.passes.allocation.axes import AXES, SIZE
from ladder.passes.allocation.parts import candidates
from ladder.passes.allocation.problem import Picks, Problem
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.prepare import ready
from ladder.planning.times import refuse_unreachable
from ladder.support.results import Result

KNOWN = tuple(axis for axis in AXES if axis.known)


@dataclass
class PlanSizes(Result):
    """``bytes`` and ``bpw`` of one type everywhere, and the least and the most of a mixed plan.

    ``notes`` say what is known of the budget before anything is measured.
    """

    model: str
    types: list[str]
    sites: int
    uniform: dict[str, dict[str, float]]
    least: dict[str, float]
    most: dict[str, float]
    notes: list[str]


def plan_sizes(model: str | Path | Source, options: PlanOptions) -> PlanSizes:
    """The sizes of plans with the options' types, rules and kept sites.

    A budget that no plan can meet is refused, as it would be by a plan.
    """
    options.check()
    source = ready(model, PREPARE, options.trust_remote_code)
    types, budget = candidates(options.types), options.budget
    if budget is not None:
        refuse_unreachable(source, options, budget)
    problem, notes = problem_by(source.model, None, types, options.rules, options.keep)
    return PlanSizes(
        model=source.origin,
        types=list(types),
        sites=sum(len(part.names) for part in problem.parts),
        uniform={type: _sizes(problem, problem.uniform(type)) for type in types},
        least=_sizes(problem, _extreme(problem, 1)),
        most=_sizes(problem, _extreme(problem, -1)),
        notes=[*source.notes, *notes, *_of_budget(options)],
    )


def _sizes(problem: Problem, picks: Picks) -> dict[str, float]:
    totals = problem.totals(picks)
    return {axis.key: totals[axis.key] for axis in KNOWN}


def _extreme(problem: Problem, sign: int) -> Picks:
    """The smallest option of every part, or with ``sign`` -1 the largest."""
    return tuple(
        min(range(len(part.options)), key=lambda i: sign * part.options[i].along(SIZE.counted))
        for part in problem.parts
    )


def _of_budget(options: PlanOptions) -> list[str]:
    budget = options.budget
    if budget is None:
        return []
    known = [axis.flag for axis in budget.asked if axis.known]
    later = [axis.flag for axis in budget.asked if not axis.known]
    notes = [f"{' and '.join(known)} can be met"] if known else []
    return notes + ([f"{' and '.join(later)}: known once a plan is measured"] if later else [])
