"""Whether a plan is good enough to be used, in words, and what would be."""

from __future__ import annotations

from ladder.errors import LadderError
from ladder.passes.allocation.axes import BITS_PER_WEIGHT, LOSS, SIZE
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.problem import Problem
from ladder.support.quality import USABLE, is_usable, quality


def verdict(problem: Problem, loss: float, measured: bool) -> str:
    """One sentence on a plan with this loss; empty where the output is no distribution."""
    if problem.metric != LOSS.metric:
        return ""
    how = "measured" if measured else "predicted"
    said = f"KL from the float model, {how}: {loss:.3g} nats per token. The result is "
    if is_usable(loss):
        return f"{said}{quality(loss)}."
    return f"{said}{quality(loss)}. {_what_would_be(problem)}."


def _what_would_be(problem: Problem) -> str:
    """The smallest plan that is usable, as predicted."""
    try:
        found = allocate(problem, Budget({LOSS.option: USABLE})).totals
    except LadderError:
        return "No plan of these types would be usable: add wider ones to --types"
    size, bits = found[SIZE.key], found[BITS_PER_WEIGHT.key]
    return (
        f"The smallest plan that is predicted to be usable takes {SIZE.unit.least(size)} "
        f"({bits:.3g} bits per weight): give --size {SIZE.unit.least(size)}"
    )
