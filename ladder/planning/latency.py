"""A latency held: plans are timed as a whole, and the next one aims by what those before took.

A token's time is no multiple of what is predicted from products timed alone: it was seen to grow
faster, and correcting by the ratio then swings to and fro. It is only larger where the prediction
is larger. So the limit that the allocation is given is searched, by interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.passes.allocation.axes import LATENCY
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.planning.times import faster

PLANS = 6  # timed at most
AGREEMENT = 0.03  # of predicted and measured time of a token


@dataclass(frozen=True)
class Timed:
    """A plan that was timed: it was allowed ``aim`` seconds by prediction, and took ``seconds``.

    ``problem`` has the times multiplied so that ``aim`` is the budget there.
    """

    aim: float
    seconds: float
    problem: Problem
    found: Allocated

    @property
    def predicted(self) -> float:
        """By ``problem``: the budget, or less where other limits keep the plan below it."""
        return self.found.totals[LATENCY.key]

    @property
    def miss(self) -> float:
        """What was measured is so much off, as a share."""
        return abs(self.seconds / self.predicted - 1)


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
    """The plan whose measured time is nearest to the latency asked; ``found`` is the first."""
    asked = budget.limit(LATENCY)
    assert asked is not None
    timed: list[Timed] = []
    aim, scaled, why = asked, problem, "times vary on this machine"
    while True:
        timed.append(Timed(aim, seconds_of(scaled, found.picks), scaled, found))
        if timed[-1].miss <= AGREEMENT:
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
    return Held(min(timed, key=lambda plan: plan.miss), len(timed), why)


def next_aim(timed: Sequence[Timed], asked: float) -> float:
    """Between the nearest plan that was in time and the nearest that was not, else by ratio."""
    under = max((t for t in timed if t.seconds <= asked), key=lambda t: t.seconds, default=None)
    over = min((t for t in timed if t.seconds > asked), key=lambda t: t.seconds, default=None)
    if under and over and under.aim < over.aim:
        share = (asked - under.seconds) / (over.seconds - under.seconds)
        return under.aim + share * (over.aim - under.aim)
    return timed[-1].aim * timed[-1].predicted / timed[-1].seconds
