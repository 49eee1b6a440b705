"""Meet a latency limit: time whole plans, and choose the next plan by the times so far.

The time of a token is not a multiple of the time predicted from single products: it has been
seen to grow faster, and then a correction by the ratio oscillates. But a larger prediction does
mean a larger time, so the limit for the allocation is found by interpolation.
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

PLANS = 6  # time at most this many plans
AGREEMENT = 0.03  # relative difference between predicted and measured time that is close enough


@dataclass(frozen=True)
class Timed:
    """A timed plan: its predicted time was limited to ``aim`` seconds, and it took ``seconds``.

    ``problem`` has its times multiplied so that ``aim`` becomes the budget.
    """

    aim: float
    seconds: float
    problem: Problem
    found: Allocated

    @property
    def predicted(self) -> float:
        """The time by ``problem``: the budget, or less where other limits are tighter."""
        return self.found.totals[LATENCY.key]

    @property
    def miss(self) -> float:
        """Relative error of the prediction."""
        return abs(self.seconds / self.predicted - 1)


@dataclass(frozen=True)
class Held:
    """The plan closest to the budget, how many were timed, and why none is closer."""

    plan: Timed
    plans: int
    why: str = ""


def hold(
    problem: Problem,
    found: Allocated,
    budget: Budget,
    seconds_of: Callable[[Problem, Picks], float],
) -> Held:
    """The plan whose measured time is closest to the latency asked for, starting from ``found``."""
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
    """Interpolate between the closest plans below and above the limit, else use the ratio."""
    under = max((t for t in timed if t.seconds <= asked), key=lambda t: t.seconds, default=None)
    over = min((t for t in timed if t.seconds > asked), key=lambda t: t.seconds, default=None)
    if under and over and under.aim < over.aim:
        share = (asked - under.seconds) / (over.seconds - under.seconds)
        return under.aim + share * (over.aim - under.aim)
    return timed[-1].aim * timed[-1].predicted / timed[-1].seconds
