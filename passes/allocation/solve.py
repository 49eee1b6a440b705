"""The exact solution: a mixed-integer program for HiGHS, small without dominated options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.passes.allocation.axes import SIZE, counted
from ladder.passes.allocation.problem import Option, Part, Picks
from ladder.support.units import ROUNDING

# HiGHS works to 1e-6 absolute; goals and limits are scaled to this size beforehand.
SCALE = 1e4
MOST_CUTS = 50
OPTIMAL, INFEASIBLE = 0, 2


def minimise(
    parts: Sequence[Part], weights: Mapping[str, float], limits: Mapping[str, float]
) -> Picks | None:
    """An option for each part, so that the weighted sum is the least within ``limits``.

    The keys of ``weights`` and ``limits`` are what axes count; limits bound the sums over the
    parts. None where no choice is within them. Of equal options of a part the smaller one is taken.
    """
    active = {
        axis: limit
        for axis, limit in limits.items()
        if sum(max(o.along(axis) for o in part.options) for part in parts) > limit
    }
    useful = [_undominated(part.options, weights, list(active)) for part in parts]
    if not active:
        return tuple(indices[0] for indices in useful)
    for axis, limit in active.items():
        least = sum(min(o.along(axis) for o in part.options) for part in parts)
        if least > limit + abs(limit) * ROUNDING:
            return None
    return _Program(parts, useful, weights, active).solve()


def _goal(option: Option, weights: Mapping[str, float]) -> float:
    return sum(weight * option.along(axis) for axis, weight in weights.items())


def _undominated(
    options: Sequence[Option], weights: Mapping[str, float], limited: list[str]
) -> list[int]:
    """Options that may be part of a best choice, best goal first; of equal ones the cheapest."""

    costs = (*limited, SIZE.counted, *counted())

    def key(i: int) -> tuple[float, ...]:
        option = options[i]
        return (_goal(option, weights), *(option.along(a) for a in costs), i)

    kept: list[int] = []
    for i in sorted(range(len(options)), key=key):
        if not any(all(options[j].along(a) <= options[i].along(a) for a in limited) for j in kept):
            kept.append(i)
    return kept


class _Program:
    """One variable for each useful option of each part: 1 where it is chosen."""

    def __init__(
        self,
        parts: Sequence[Part],
        useful: list[list[int]],
        weights: Mapping[str, float],
        limits: Mapping[str, float],
    ) -> None:
        self.parts, self.useful, self.limits = parts, useful, limits
        self.starts = np.cumsum([0, *(len(indices) for indices in useful)])
        self.goal = _scaled(self._extra(lambda o: _goal(o, weights))[0])
        self.rows: list[np.ndarray] = []
        self.upper: list[float] = []
        for axis, limit in limits.items():
            self._limit(axis, limit)

    def solve(self) -> Picks | None:
        for _ in range(MOST_CUTS):
            variables = self._run()
            if variables is None:
                return None
            chosen = [int(part.argmax()) for part in np.split(variables, self.starts[1:-1])]
            picks = tuple(self.useful[i][c] for i, c in enumerate(chosen))
            if self._within(picks):
                return picks
            # Over a limit by less than HiGHS's tolerance: forbid this one choice, and no other.
            row = np.zeros(self.starts[-1])
            row[self.starts[:-1] + np.array(chosen)] = 1
            self.rows.append(row)
            self.upper.append(len(self.parts) - 1)
        raise LadderError(
            "the solver found no plan that meets the budget exactly; raise it slightly"
        )

    def _extra(self, value: Any) -> tuple[np.ndarray, float]:
        """For each variable its value minus the least of its part; and the sum of the least."""
        columns, base = [], 0.0
        for part, indices in zip(self.parts, self.useful, strict=True):
            values = np.array([value(part.options[i]) for i in indices], np.float64)
            columns.append(values - values.min())
            base += float(values.min())
        return np.concatenate(columns), base

    def _limit(self, axis: str, limit: float) -> None:
        extra, base = self._extra(lambda o: o.along(axis))
        room = max(limit - base, 0.0)
        factor = SCALE / max(room, float(extra.max()), 1e-300)
        self.rows.append(extra * factor)
        self.upper.append(room * factor)

    def _within(self, picks: Picks) -> bool:
        chosen = [part.options[pick] for part, pick in zip(self.parts, picks, strict=True)]
        return all(
            sum(o.along(axis) for o in chosen) <= limit + abs(limit) * ROUNDING
            for axis, limit in self.limits.items()
        )

    def _run(self) -> np.ndarray | None:
        """The variables of an optimum, or None where there is no choice within the limits."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_matrix

        count, size = len(self.parts), int(self.starts[-1])
        owners = np.repeat(np.arange(count), np.diff(self.starts))
        one_each = csr_matrix((np.ones(size), (owners, np.arange(size))), (count, size))
        found = milp(
            self.goal,
            integrality=np.ones(size),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(np.stack(self.rows), -np.inf, np.array(self.upper)),
            ],
            options={"mip_rel_gap": 0.0},
        )
        if found.status == INFEASIBLE:
            return None
        if found.status != OPTIMAL:
            raise LadderError(f"the solver gave up: {found.message}")
        variables: np.ndarray = found.x
        return variables


def _scaled(goal: np.ndarray) -> np.ndarray:
    largest = float(goal.max())
    return goal * (SCALE / largest) if largest > 0 else goal
