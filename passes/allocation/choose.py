"""From a budget to a choice: limits, the goal, the uniform plans beside it, plain refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.passes.allocation.budget import ROUNDING, Budget, show_number, show_size, show_time
from ladder.passes.allocation.problem import Picks, Problem, Totals
from ladder.passes.allocation.solve import minimise

NAMES = {"loss": "predicted loss", "bits": "size", "seconds": "latency", "prefill": "prefill time"}


@dataclass(frozen=True)
class Limit:
    """One limit: as it was asked, its axis, the bound of the parts' sum, and how to say a value.

    ``show`` says a sum over the parts in the unit of the option, rounded up.
    """

    asked: str
    axis: str
    bound: float
    show: Callable[[float], str]


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
    """The best choice within the budget; refused with the least reachable where there is none."""
    _check(problem, budget)
    limits, bounds = limits_of(problem, budget), bounds_of(problem, budget)
    _refuse_unreachable(problem, limits)
    weights = _weights(problem, budget)
    picks = minimise(problem.parts, weights, bounds)
    if picks is None:
        raise LadderError(_conflict(problem, limits))
    plans = {type: problem.uniform(type) for type in problem.types}
    fitting = tuple(t for t, plan in plans.items() if _within(problem, plan, bounds))
    # The solver is exact, so this changes nothing; it is a promise, so it is kept here too.
    best = min([picks, *(plans[t] for t in fitting)], key=lambda p: _value(problem, p, weights))
    goal = "sum of preferences" if budget.prefer else NAMES[budget.goal]
    uniform = {type: problem.totals(plan) for type, plan in plans.items()}
    return Allocated(best, problem.totals(best), uniform, fitting, goal)


def bounds_of(problem: Problem, budget: Budget) -> dict[str, float]:
    """The tightest bound of each axis's sum over the parts."""
    bounds: dict[str, float] = {}
    for limit in limits_of(problem, budget):
        bounds[limit.axis] = min(limit.bound, bounds.get(limit.axis, limit.bound))
    return bounds


def limits_of(problem: Problem, budget: Budget) -> list[Limit]:
    """The limits of a budget as bounds of sums over the parts."""
    limits = []
    if budget.size is not None:
        rest = 8 * problem.rest_bytes
        limits.append(
            Limit(
                f"--size {show_size(budget.size)}",
                "bits",
                8 * budget.size - rest,
                lambda bits: show_size((bits + rest) / 8, up=True),
            )
        )
    if budget.bpw is not None:
        count = problem.parameters
        limits.append(
            Limit(
                f"--bpw {budget.bpw:g}",
                "bits",
                budget.bpw * count,
                lambda bits: f"{show_number(bits / count, up=True)} bits per weight",
            )
        )
    if budget.latency is not None:
        limits.append(
            Limit(
                f"--latency {show_time(budget.latency)}",
                "seconds",
                budget.latency - problem.rest_seconds,
                lambda s: f"{show_time(s + problem.rest_seconds, up=True)} a token",
            )
        )
    if budget.max_kl is not None:
        limits.append(
            Limit(
                f"--max-kl {budget.max_kl:g}",
                "loss",
                budget.max_kl,
                lambda loss: f"{show_number(loss, up=True)} nats a token",
            )
        )
    return limits


def _check(problem: Problem, budget: Budget) -> None:
    if not problem.parts:
        raise LadderError("there is no weight that may change type: nothing to allocate")
    if budget.timed and not problem.timed:
        raise LadderError("latency is asked, but there are no times of the products to choose by")
    if budget.max_kl is not None and problem.metric != "kl":
        raise LadderError(
            "--max-kl: the model's output is no distribution, so its loss is no KL; "
            "give --bpw, --size or --latency"
        )


def _refuse_unreachable(problem: Problem, limits: list[Limit]) -> None:
    fixed = sum(len(part.names) for part in problem.parts if part.why_fixed)
    hint = f" (sites that --rule or --keep fix: {fixed})" if fixed else ""
    for limit in limits:
        least = problem.least(limit.axis)
        if least > limit.bound + abs(limit.bound) * ROUNDING:
            raise LadderError(
                f"{limit.asked} cannot be met: the least reachable is {limit.show(least)} "
                f"with {', '.join(problem.types)}{hint}"
            )


def _conflict(problem: Problem, limits: list[Limit]) -> str:
    """What to say where each limit can be met, but not all of them at once."""
    texts = []
    for limit in limits:
        others = [other for other in limits if other is not limit]
        bounds = {o.axis: min(x.bound for x in others if x.axis == o.axis) for o in others}
        picks = minimise(problem.parts, {limit.axis: 1.0}, bounds)
        if picks is not None:
            chosen = (part.options[p] for part, p in zip(problem.parts, picks, strict=True))
            least = limit.show(sum(option.along(limit.axis) for option in chosen))
            texts.append(f"within {' and '.join(o.asked for o in others)} the least is {least}")
    asked = " and ".join(limit.asked for limit in limits)
    return f"{asked} cannot be met together: {'; '.join(texts) or 'no two of them can'}"


def _weights(problem: Problem, budget: Budget) -> dict[str, float]:
    """Weights by axis. Preferences are of each axis in units of the uniform plans' range."""
    if not budget.prefer:
        return {budget.goal: 1.0}
    weights = {}
    for axis, weight in budget.prefer:
        sums = [_value(problem, problem.uniform(t), {axis: 1.0}) for t in problem.types]
        spread = max(sums) - min(sums)
        weights[axis] = weight / spread if spread > 0 else 0.0
    return weights


def _value(problem: Problem, picks: Picks, weights: dict[str, float]) -> float:
    chosen = [part.options[pick] for part, pick in zip(problem.parts, picks, strict=True)]
    return sum(w * sum(option.along(axis) for option in chosen) for axis, w in weights.items())


def _within(problem: Problem, picks: Picks, bounds: dict[str, float]) -> bool:
    return all(
        _value(problem, picks, {axis: 1.0}) <= bound + abs(bound) * ROUNDING
        for axis, bound in bounds.items()
    )
