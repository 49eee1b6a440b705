"""A latency held: plans are timed as a whole, and the next one aims by what those before took.

A token's time is no multiple of what is predicted from products timed alone: it was seen to grow
faster, and correcting by the ratio then swings to and fro. It is only larger where the prediction
is larger. So the limit that the allocation is given is searched, by interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.planning.times import faster

PLANS = 6  # timed at most
AGREEMENT = 0.03  # of the time that was asked and the one measured


@dataclass(frozen=True)
class Timed:
    """A plan that was timed: it was allowed ``aim`` seconds by prediction, and took ``seconds``.

    ``problem`` has the times multiplied so that ``aim`` is the budget there.
    """

    aim: float
    seconds: float
    problem: Problem
    found: Allocated

    def miss(self, budget: float) -> float:
        """Share of the budget that it is off; 0 where other limits keep it below the budget."""
        if self.seconds <= budget and self.found.totals.seconds < (1 - AGREEMENT) * budget:
            return 0.0
        return abs(self.seconds / budget - 1)


@dataclass(frozen=True)
class Held:
    """The plan nearest to the budget, of how many, and why it is not nearer where it is not."""

    plan: Timed
    plans: int
    why: str = ""


def hold(
    problem: Problem,
    found: Allocated,
    budget: Budget,
    seconds_of: Callable[[Problem, Picks], float],
) -> Held:
    """The plan whose measured time is nearest to ``budget.latency``; ``found`` is the first."""
    asked = budget.latency
    assert asked is not None
    timed: list[Timed] = []
    aim, scaled, why = asked, problem, "times vary on this machine"
    while True:
        timed.append(Timed(aim, seconds_of(scaled, found.picks), scaled, found))
        if timed[-1].miss(asked) <= AGREEMENT:
            return Held(timed[-1], len(timed))
        if len(timed) == PLANS:
            break
        aim = next_aim(timed, asked)
        scaled = faster(problem, asked / aim)
        try:
            found = allocate(scaled, budget)
        except LadderError as error:
            why = str(error)
            break
    return Held(min(timed, key=lambda plan: plan.miss(asked)), len(timed), why)


def next_aim(timed: Sequence[Timed], asked: float) -> float:
    """Between the nearest plan that was in time and the nearest that was not, else by ratio."""
    under = max((t for t in timed if t.seconds <= asked), key=lambda t: t.seconds, default=None)
    over = min((t for t in timed if t.seconds > asked), key=lambda t: t.seconds, default=None)
    if under and over and under.aim < over.aim:
        share = (asked - under.seconds) / (over.seconds - under.seconds)
        return under.aim + share * (over.aim - under.aim)
    return timed[-1].aim * asked / timed[-1].seconds
