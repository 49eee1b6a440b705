"""Allocation as plain data: parts that take one type each, and what each type costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ladder.passes.allocation import axes

Picks = tuple[int, ...]  # for each part the index of its option
Totals = Mapping[str, float]  # a plan on every axis by its key, the overhead included


@dataclass(frozen=True)
class Option:
    """What one type costs a part, one field for each quantity that axes count.

    ``loss`` is the loss of the output (KL in nats per token, or MSE), ``bits`` are stored bits with
    scales, ``seconds`` the time of the products at M=1 and ``prefill`` that at the prefill chunk.
    """

    type: str
    costs: Mapping[str, float]

    def along(self, what: str) -> float:
        """The cost in one quantity."""
        return self.costs[what]


@dataclass(frozen=True)
class Part:
    """Sites that share one weight and so have one type. With one option nothing is chosen."""

    names: tuple[str, ...]
    role: str
    parameters: int
    options: tuple[Option, ...]
    why_fixed: str = ""


@dataclass(frozen=True)
class Problem:
    """The parts of a model, and the costs outside of them.

    ``overhead`` is by an axis's key: bytes of constants that are not weights of sites, seconds that
    a decoded token takes outside of the products. ``timed``: the times were measured.
    """

    parts: tuple[Part, ...]
    types: tuple[str, ...]
    metric: str = "kl"
    timed: bool = False
    overhead: Mapping[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    def sum(self, picks: Picks, what: str) -> float:
        """The sum of one quantity over the parts."""
        chosen = zip(self.parts, picks, strict=True)
        return sum(part.options[pick].along(what) for part, pick in chosen)

    def totals(self, picks: Picks) -> Totals:
        """The value of a plan on every axis."""
        return {axis.key: axis.total(self, self.sum(picks, axis.counted)) for axis in axes.AXES}

    def least_totals(self) -> Totals:
        """The least reachable on every axis, each by a plan of its own."""
        return {axis.key: axis.total(self, self.least(axis.counted)) for axis in axes.AXES}

    def shown(self, totals: Totals) -> dict[str, float]:
        """Totals as facts and files have them: times only where they were measured."""
        return {axis.key: totals[axis.key] for axis in axes.AXES if self.timed or not axis.timed}

    def uniform(self, type: str) -> Picks:
        """One type for every part that is free to take it."""
        return tuple(_index(part.options, type) for part in self.parts)

    def least(self, what: str) -> float:
        """The least sum of one quantity over the parts."""
        return sum(min(o.along(what) for o in part.options) for part in self.parts)


def _index(options: Sequence[Option], type: str) -> int:
    return next((i for i, option in enumerate(options) if option.type == type), 0)
