"""Improve a plan by measuring each site with the rest of the plan applied.

A sensitivity is measured with all other sites float. Where many sites have few bits, their errors
interact, and the sum of the scores is wrong. Here all sites are as planned except one, which takes
the next smaller or the next larger type; the change of the loss is the effect of that step. The
best set of steps within the budget is again the solution of a mixed-integer program. Effects add
up only for small changes, so several prices on each change are tried, and the set of steps that
measures best is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ladder.blockwise.weights import Group, Rounder, Task
from ladder.calibration.data import Data
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.passes.allocation.axes import LOSS, SIZE
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import bounds_of
from ladder.passes.allocation.parts import FLOAT
from ladder.passes.allocation.problem import Option, Part, Picks, Problem
from ladder.passes.allocation.solve import minimise
from ladder.planning.evaluate_plan import PlanEvaluator
from ladder.sensitivity.engine import Engine
from ladder.sensitivity.state import Scores
from ladder.sensitivity.workers import Alone, run_all
from ladder.support.threads import own_threads

PRICES = (0.0, 0.5, 2.0)  # added to the effect of a step, as multiples of the mean effect


@dataclass(frozen=True)
class Refined:
    """A plan, its measured loss, and the number of rounds and measured steps that led to it."""

    picks: Picks
    loss: float
    rounds: int
    steps: int


def refine(
    model: ir.Model,
    data: Data,
    check: PlanEvaluator,
    rounder: Rounder,
    budget: Budget,
    picks: Picks,
    loss: float,
    rounds: int,
) -> Refined:
    """Measure single steps and take the best set of them, in rounds, as long as the loss falls.

    ``model`` is the float model; ``rounder`` rounds its weights to a type; ``loss`` is the measured
    loss of ``picks``.
    """
    steps = done = 0
    for _ in range(rounds):
        effects = measure_steps(model, data, check, rounder, picks, loss)
        steps, done = steps + len(effects), done + 1
        tried = {_step(check.problem, budget, picks, effects, price) for price in PRICES}
        found = {p: check.loss(p) for p in tried if p != picks}
        best = min(found, key=lambda p: found[p], default=picks)
        if found.get(best, loss) >= loss:
            break
        picks, loss = best, found[best]
    return Refined(picks, loss, done, steps)


def measure_steps(
    model: ir.Model, data: Data, check: PlanEvaluator, rounder: Rounder, picks: Picks, loss: float
) -> dict[tuple[int, int], float]:
    """(part, option) -> the change of the loss if that one part takes the option."""
    problem, groups = check.problem, check.groups
    planned, weights = facts.clone(model), _weights(problem, picks, groups, rounder)
    for name, array in weights.items():
        planned.graph.initializers[name].const_value = ir.tensor(array, name=name)

    def original(group: Group, dtype: DType) -> np.ndarray:
        return rounder(groups[group.name], dtype)

    engine = Engine(planned, data.feeds, original, data.labels is not None,
                    threads=own_threads(), expected=check.expected)  # fmt: skip
    steps: dict[Task, tuple[int, int]] = {}
    for i, part in enumerate(problem.parts):
        name = groups[part.names[0]].name
        steps |= {Task(name, part.options[o].type): (i, o) for o in _neighbours(part, picks[i])}
    effects: dict[tuple[int, int], float] = {}

    def add(found: Iterable[tuple[Task, Scores]]) -> None:
        effects.update({steps[task]: scores[problem.metric] - loss for task, scores in found})

    run_all(list(steps), lambda task: groups[task.group].blocks[0], Alone(engine), add, 0)
    return effects


def _weights(
    problem: Problem, picks: Picks, groups: Mapping[str, Group], rounder: Rounder
) -> dict[str, np.ndarray]:
    """The plan's rounded weights by the names of their initializers."""
    chosen = [(p.names[0], p.options[k].type) for p, k in zip(problem.parts, picks, strict=True)]
    return {
        groups[name].weight_name: rounder(groups[name], DType.parse(type))
        for name, type in chosen
        if type != FLOAT
    }


def _neighbours(part: Part, pick: int) -> list[int]:
    """The next smaller and the next larger option of a part."""
    order = sorted(range(len(part.options)), key=lambda i: part.options[i].along(SIZE.counted))
    at = order.index(pick)
    near = [order[i] for i in (at - 1, at + 1) if 0 <= i < len(order)]
    return [i for i in near if part.options[i].type != FLOAT]


def _step(
    problem: Problem,
    budget: Budget,
    picks: Picks,
    effects: Mapping[tuple[int, int], float],
    price: float,
) -> Picks:
    """The set of steps with the least sum of effects within the budget."""
    each = price * float(np.mean([abs(e) for e in effects.values()])) if effects else 0.0
    parts, known = [], []
    for i, (part, pick) in enumerate(zip(problem.parts, picks, strict=True)):
        options = [pick, *(o for p, o in effects if p == i)]
        losses = [0.0, *(effects[i, o] + each for o in options[1:])]
        known.append(options)
        chosen = zip(options, losses, strict=True)
        parts.append(replace(part, options=tuple(_with(part.options[o], x) for o, x in chosen)))
    found = minimise(parts, {LOSS.counted: 1.0}, bounds_of(problem, budget)) or (0,) * len(parts)
    return tuple(k[f] for k, f in zip(known, found, strict=True))


def _with(option: Option, loss: float) -> Option:
    return replace(option, costs={**option.costs, LOSS.counted: loss})
