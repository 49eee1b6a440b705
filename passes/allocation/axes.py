"""The axes on which plans are compared, as data: size, bits per weight, latency, prefill, loss.

Limits, preferences, goals, tables, fronts and the totals in plan files are made from ``AXES``. A
new axis is a row here, a field of ``AxisOptions``, and the option that limits it. This module
imports little, because the command line reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ladder.support.units import BYTES, SECONDS, Unit, number

if TYPE_CHECKING:
    from ladder.passes.allocation.parts import Use
    from ladder.passes.allocation.problem import Problem


@dataclass(frozen=True)
class Column:
    """How tables and plots show totals: a title (empty: the metric's name), and a factor."""

    title: str
    factor: float = 1.0


@dataclass(frozen=True)
class Axis:
    """One quantity that plans are compared by: ``overhead + sum over the parts / per``.

    ``key`` names it in totals and files. ``counted`` names what is summed, and ``cost`` is the cost
    of a part in one type; axes that sum the same quantity share both. ``per`` divides the sum.

    ``option`` limits it, in ``unit``; ``after`` follows a value in messages. ``preference`` is its
    name in --prefer; if it is a ``goal``, --minimise takes its name. ``label`` says what was
    minimised, ``column`` says how tables show it; ``front`` labels the axis of its front in plots.

    ``timed``: it needs the times of products. ``known``: it follows from the types, before
    anything is measured. ``metric``: a limit is only meaningful for losses in this metric.
    ``suggested`` orders the options that messages suggest.
    """

    name: str
    key: str
    counted: str
    cost: Callable[[Use], float]
    unit: Unit
    label: str
    after: str = ""
    per: Callable[[Problem], float] = lambda problem: 1.0
    option: str = ""
    preference: str = ""
    goal: bool = False
    column: Column | None = None
    front: str = ""
    timed: bool = False
    known: bool = False
    metric: str = ""
    suggested: int = 1

    @property
    def flag(self) -> str:
        """Its option as the command line spells it."""
        return f"--{self.option.replace('_', '-')}"

    def total(self, problem: Problem, counted: float) -> float:
        """The value on this axis for a sum over the parts."""
        return problem.overhead.get(self.key, 0.0) + counted / self.per(problem)

    def bound(self, problem: Problem, limit: float) -> float:
        """The sum over the parts whose value on this axis is ``limit``."""
        return (limit - problem.overhead.get(self.key, 0.0)) * self.per(problem)


LOSS = Axis(
    name="loss",
    key="loss",
    counted="loss",
    cost=lambda use: use.loss,
    unit=number("0.05"),
    label="predicted loss",
    after=" nats per token",
    option="max_kl",
    preference="accuracy",
    goal=True,
    column=Column(""),
    metric="kl",
)
SIZE = Axis(
    name="size",
    key="bytes",
    counted="bits",
    cost=lambda use: use.bits,
    unit=BYTES,
    label="size",
    per=lambda problem: 8.0,
    option="size",
    preference="memory",
    goal=True,
    column=Column("MB", 1e-6),
    front="weights, MB",
    known=True,
)
BITS_PER_WEIGHT = Axis(
    name="bpw",
    key="bpw",
    counted=SIZE.counted,
    cost=SIZE.cost,
    unit=number("3.5"),
    label=SIZE.label,
    after=" bits per weight",
    per=lambda problem: max(problem.parameters, 1),
    option="bpw",
    column=Column("bpw"),
    known=True,
    suggested=0,
)
LATENCY = Axis(
    name="latency",
    key="seconds",
    counted="seconds",
    cost=lambda use: use.seconds,
    unit=SECONDS,
    label="latency",
    after=" per token",
    option="latency",
    preference="latency",
    goal=True,
    column=Column("ms per token", 1e3),
    front="decoded token, ms",
    timed=True,
)
PREFILL = Axis(
    name="prefill",
    key="prefill",
    counted="prefill",
    cost=lambda use: use.prefill,
    unit=SECONDS,
    label="prefill time",
    timed=True,
)
AXES = [LOSS, SIZE, BITS_PER_WEIGHT, LATENCY, PREFILL]


@dataclass(frozen=True)
class AxisOptions:
    """The limits as options of a pass, as texts; empty where there is no limit."""

    bpw: str = ""
    size: str = ""
    latency: str = ""
    max_kl: str = ""


def costs() -> dict[str, Callable[[Use], float]]:
    """What is counted -> its cost of a part in one type."""
    return {axis.counted: axis.cost for axis in reversed(AXES)}


def counted() -> tuple[str, ...]:
    """What is summed over the parts, in the order of the axes."""
    return tuple(dict.fromkeys(axis.counted for axis in AXES))


def limited() -> list[Axis]:
    """Axes that an option limits, the loss last."""
    return _loss_last(axis for axis in AXES if axis.option)


def preferences() -> dict[str, Axis]:
    """Name in --prefer -> axis, the loss last."""
    return {axis.preference: axis for axis in _loss_last(AXES) if axis.preference}


def goals() -> dict[str, Axis]:
    """Name in --minimise -> axis."""
    return {axis.name: axis for axis in AXES if axis.goal}


def label_of(what: str) -> str:
    """The name that reports use for what was minimised."""
    return next(axis.label for axis in AXES if axis.counted == what)


def suggestion(some: Iterable[Axis], *more: str) -> str:
    """``--bpw, --size or --latency``: options for a message to suggest."""
    flags = [axis.flag for axis in sorted(some, key=lambda axis: axis.suggested)]
    *first, last = (*flags, *more)
    return f"{', '.join(first)} or {last}" if first else last


def _loss_last(some: Iterable[Axis]) -> list[Axis]:
    return sorted(some, key=lambda axis: axis.counted == LOSS.counted)
