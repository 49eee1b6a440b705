"""A type for every site: the least predicted loss within a budget, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import (
    Allocation,
    BitPlan,
    Choice,
    Muxing,
    ProductCosts,
    Sensitivity,
    Skipped,
)
from ladder.ir.site import Site, find_sites
from ladder.passes.allocation.axes import LATENCY, LOSS, SIZE, AxisOptions
from ladder.passes.allocation.budget import BUDGET, Budget
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.parts import (
    FLOAT,
    candidates,
    fixed_groups,
    groups_of,
    parts_of,
)
from ladder.passes.allocation.problem import Option, Part, Picks, Problem
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.patterns import Rule
from ladder.support.units import parse_time, show_number

LABELS = {"kl": "KL", "mse": "MSE"}


@dataclass(frozen=True)
class AllocateBits(Pass, AxisOptions):
    """Plan the types with the least predicted loss within ``bpw``, ``size`` or ``latency``.

    ``max-kl`` minimises the size within a loss (or ``minimise``: loss, size, latency), ``prefer``
    weighs ``memory=1/latency=1/accuracy=2``. ``types`` (``int2:g64|int4:g64``) restricts the types
    that were measured, ``rules`` and ``keep`` are those of allocate-uniform. ``overhead`` (``3ms``)
    is a token's time outside of products. Adds BitPlan, Skipped and Allocation; the graph stays.
    """

    types: tuple[DType, ...] = ()
    prefer: str = ""
    minimise: str = ""
    rules: tuple[Rule, ...] = ()
    keep: tuple[str, ...] = ()
    overhead: str = ""
    needs: ClassVar[Facts] = (Sensitivity,)
    gives: ClassVar[Facts] = (BitPlan, Skipped, Allocation)

    @property
    def budget(self) -> Budget:
        """The budget that the options give; invalid combinations are refused."""
        return Budget.of({name: getattr(self, name) for name in BUDGET})

    def run(self, model: ir.Model) -> None:
        budget = self.budget
        problem, notes = problem_of(model, self.types, self.rules, self.keep, self.overhead)
        if budget.timed and not problem.timed:
            raise LadderError(
                "a limit on latency needs the fact ProductCosts: measure the products first"
            )
        put_allocation(model, problem, allocate(problem, budget), str(budget), notes)


def problem_of(
    model: ir.Model,
    types: Sequence[DType] = (),
    rules: Sequence[Rule] = (),
    keep: Sequence[str] = (),
    overhead: str = "",
) -> tuple[Problem, tuple[str, ...]]:
    """The allocation problem of a model with its facts, and notes on what is not counted."""
    sensitivity = facts.get(model, Sensitivity)
    assert sensitivity is not None
    names = candidates(types or _measured(sensitivity))
    return problem_by(model, sensitivity, names, rules, keep, overhead)


def problem_by(
    model: ir.Model,
    sensitivity: Sensitivity | None,
    names: tuple[str, ...],
    rules: Sequence[Rule] = (),
    keep: Sequence[str] = (),
    overhead: str = "",
) -> tuple[Problem, tuple[str, ...]]:
    """The problem for a sensitivity; before anything is measured it is None, and losses are 0."""
    costs = facts.get(model, ProductCosts)
    sites = find_sites(model)[0]
    groups = groups_of(sites)
    fixed, muxing = fixed_groups(groups, rules, keep), facts.get(model, Muxing)
    parts, notes = parts_of(groups, fixed, names, sensitivity, costs, muxing)
    problem = Problem(
        parts,
        names,
        sensitivity.metric if sensitivity else Problem.metric,
        costs is not None,
        {
            SIZE.key: _other_bytes(model, sites),
            LATENCY.key: parse_time("overhead", overhead) if overhead else 0.0,
        },
    )
    return problem, notes


def put_allocation(
    model: ir.Model, problem: Problem, found: Allocated, asked: str, notes: tuple[str, ...]
) -> None:
    """Add a choice as facts: the plan, the sites that it skips, and its expected totals."""
    put_choices(model, *rows_of(problem, found.picks))
    costs = facts.get(model, ProductCosts)
    uniform = {type: problem.shown(totals) for type, totals in found.uniform.items()}
    facts.put(
        model,
        Allocation(
            asked,
            found.goal,
            problem.metric,
            found.status,
            problem.shown(found.totals),
            uniform,
            problem.shown(problem.least_totals()),
            found.fitting,
            costs.source if costs else "",
            notes,
        ),
    )


def rows_of(problem: Problem, picks: Picks) -> tuple[dict[str, Choice], dict[str, str]]:
    """The choices with their reasons, and why other sites stay float, by site."""
    choices: dict[str, Choice] = {}
    kept: dict[str, str] = {}
    for part, pick in zip(problem.parts, picks, strict=True):
        option, first = part.options[pick], part.names[0]
        why = part.why_fixed or _reason(part, option, LABELS.get(problem.metric, problem.metric))
        for name in part.names:
            text = why if name == first else f"{why}, tied to {first}"
            if option.type == FLOAT:
                kept[name] = text
            else:
                choices[name] = Choice(DType.parse(option.type), text)
    return choices, kept


def _reason(part: Part, chosen: Option, label: str) -> str:
    """``KL 0.0012 at int4:g128; int3:g64 would cost 0.009``: the type, and the next smaller one."""
    smaller = [o for o in part.options if _bits(o) < _bits(chosen)]
    larger = [o for o in part.options if _bits(o) > _bits(chosen)]
    text = f"{label} {_loss(chosen)} at {chosen.type}"
    if smaller:
        other = max(smaller, key=_bits)
        return f"{text}; {other.type} would cost {_loss(other)}"
    if larger:
        other = min(larger, key=_bits)
        return f"{text}; {other.type} would have {_loss(other)}"
    return text


def _bits(option: Option) -> float:
    return option.along(SIZE.counted)


def _loss(option: Option) -> str:
    return show_number(option.along(LOSS.counted))


def _measured(sensitivity: Sensitivity) -> list[DType]:
    """The types in which every site was measured, in the order of the first site."""
    rows = list(sensitivity.scores.values())
    names = [t for t in (rows[0] if rows else {}) if all(t in row for row in rows)]
    return [DType.parse(name) for name in names]


def _other_bytes(model: ir.Model, sites: list[Site]) -> float:
    """Bytes of the constants that are not a weight of a site; they stay as they are."""
    weights = {id(site.weight) for site in sites}
    values = [v for graph in model.graphs() for v in graph.initializers.values()]
    return float(
        sum(v.const_value.nbytes for v in values if v.const_value and id(v) not in weights)
    )
