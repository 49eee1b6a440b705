"""From a budget to a choice: limits, goal, uniform plans to compare with, and refusals."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.passes.allocation.axes import Axis, label_of, limited, suggestion
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.problem import Picks, Problem, Totals
from ladder.passes.allocation.solve import minimise
from ladder.support.units import ROUNDING


@dataclass(frozen=True)
class AxisLimit:
    """One limit of a budget: an axis and its value, which is a bound of a sum over the parts."""

    problem: Problem
    axis: Axis
    value: float

    @property
    def asked(self) -> str:
        """The limit as the command line spells it."""
        return f"{self.axis.flag} {self.axis.unit.show(self.value)}"

    @property
    def counted(self) -> str:
        """What is summed."""
        return self.axis.counted

    @property
    def bound(self) -> float:
        """The largest sum over the parts that is within the limit."""
        return self.axis.bound(self.problem, self.value)

    def show(self, counted: float) -> str:
        """A sum over the parts in the unit of the option, rounded up."""
        return self.axis.unit.least(self.axis.total(self.problem, counted)) + self.axis.after


@dataclass(frozen=True)
class Allocated:
    """The choice, and the uniform plans on the same axes; ``fitting`` are within the budget."""

    picks: Picks
    totals: Totals
    uniform: dict[str, Totals]
    fitting: tuple[str, ...]
    goal: str
    status: str = "optimal"


def allocate(problem: Problem, budget: Budget) -> Allocated:
    """The best choice within the budget; if there is none, the error says the least reachable."""
    _check(problem, budget)
    limits, bounds = limits_of(problem, budget), bounds_of(problem, budget)
    _refuse_unreachable(problem, limits)
    weights = _weights(problem, budget)
    picks = minimise(problem.parts, weights, bounds)
    if picks is None:
        raise LadderError(_conflict(problem, limits))
    plans = {type: problem.uniform(type) for type in problem.types}
    fitting = tuple(t for t, plan in plans.items() if _within(problem, plan, bounds))
    # The solver is exact, so this should change nothing; the promise is enforced here too.
    best = min([picks, *(plans[t] for t in fitting)], key=lambda p: _value(problem, p, weights))
    goal = "sum of preferences" if budget.prefer else label_of(budget.goal)
    uniform = {type: problem.totals(plan) for type, plan in plans.items()}
    return Allocated(best, problem.totals(best), uniform, fitting, goal)


def bounds_of(problem: Problem, budget: Budget) -> dict[str, float]:
    """The tightest bound of each sum over the parts."""
    bounds: dict[str, float] = {}
    for limit in limits_of(problem, budget):
        bounds[limit.counted] = min(limit.bound, bounds.get(limit.counted, limit.bound))
    return bounds


def limits_of(problem: Problem, budget: Budget) -> list[AxisLimit]:
    """The limits of a budget as bounds of sums over the parts."""
    found = ((axis, budget.limit(axis)) for axis in limited())
    return [AxisLimit(problem, axis, value) for axis, value in found if value is not None]


def _check(problem: Problem, budget: Budget) -> None:
    if not problem.parts:
        raise LadderError("there is no weight that may change type: nothing to allocate")
    if budget.timed and not problem.timed:
        raise LadderError("a limit on latency needs the times of the products, and there are none")
    for limit in limits_of(problem, budget):
        if limit.axis.metric not in ("", problem.metric):
            others = [axis for axis in limited() if not axis.metric]
            raise LadderError(
                f"{limit.axis.flag}: the model's output is not a distribution, so its loss is not "
                f"a {limit.axis.metric.upper()}; give {suggestion(others)}"
            )


def _refuse_unreachable(problem: Problem, limits: list[AxisLimit]) -> None:
    fixed = sum(len(part.names) for part in problem.parts if part.why_fixed)
    hint = f" (sites fixed by --rule or --keep: {fixed})" if fixed else ""
    for limit in limits:
        least = problem.least(limit.counted)
        if least > limit.bound + abs(limit.bound) * ROUNDING:
            raise LadderError(
                f"{limit.asked} cannot be met: the least reachable is {limit.show(least)} "
                f"with {', '.join(problem.types)}{hint}"
            )


def _conflict(problem: Problem, limits: list[AxisLimit]) -> str:
    """The message where each limit can be met, but not all of them at once."""
    texts = []
    for limit in limits:
        others = [other for other in limits if other is not limit]
        bounds = {o.counted: min(x.bound for x in others if x.counted == o.counted) for o in others}
        picks = minimise(problem.parts, {limit.counted: 1.0}, bounds)
        if picks is not None:
            least = limit.show(problem.sum(picks, limit.counted))
            texts.append(f"within {' and '.join(o.asked for o in others)} the least is {least}")
    asked = " and ".join(limit.asked for limit in limits)
    return f"{asked} cannot be met together: {'; '.join(texts) or 'no two of them can'}"


def _weights(problem: Problem, budget: Budget) -> dict[str, float]:
    """Weights of sums. Preferences weigh each sum in units of its range over the uniform plans."""
    if not budget.prefer:
        return {budget.goal: 1.0}
    weights = {}
    for what, weight in budget.prefer:
        sums = [problem.sum(problem.uniform(t), what) for t in problem.types]
        spread = max(sums) - min(sums)
        weights[what] = weight / spread if spread > 0 else 0.0
    return weights


def _value(problem: Problem, picks: Picks, weights: dict[str, float]) -> float:
    return sum(weight * problem.sum(picks, what) for what, weight in weights.items())


def _within(problem: Problem, picks: Picks, bounds: dict[str, float]) -> bool:
    return all(
        problem.sum(picks, what) <= bound + abs(bound) * ROUNDING for what, bound in bounds.items()
    )
