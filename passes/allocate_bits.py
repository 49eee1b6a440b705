"""A type for every site: the least predicted loss within a budget, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import (
    Allocation,
    BitPlan,
    Choice,
    LeftAlone,
    Muxing,
    ProductCosts,
    Sensitivity,
)
from ladder.ir.site import Site, find_sites
from ladder.passes.allocation.budget import Budget, parse_time, show_number
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.parts import (
    FLOAT,
    candidates,
    fixed_groups,
    groups_of,
    parts_of,
)
from ladder.passes.allocation.problem import Option, Part, Picks, Problem, Totals
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.patterns import Rule

TIMES = ("seconds", "prefill")
LABELS = {"kl": "KL", "mse": "MSE"}


@dataclass(frozen=True)
class AllocateBits(Pass):
    """Plan the types with the least predicted loss within ``bpw``, ``size`` or ``latency``.

    ``max-kl`` minimises the size within a loss (or ``minimise``: loss, size, latency), ``prefer``
    weighs ``memory=1/latency=1/accuracy=2``. ``types`` (``int2:g64|int4:g64``) restricts what was
    measured, ``rules`` and ``keep`` are those of allocate-uniform. ``rest`` (``3ms``) is what a
    token takes outside of products. Leaves BitPlan, LeftAlone and Allocation; the graph stays.
    """

    types: tuple[DType, ...] = ()
    bpw: str = ""
    size: str = ""
    latency: str = ""
    max_kl: str = ""
    prefer: str = ""
    minimise: str = ""
    rules: tuple[Rule, ...] = ()
    keep: tuple[str, ...] = ()
    rest: str = ""
    needs: ClassVar[Facts] = (Sensitivity,)
    gives: ClassVar[Facts] = (BitPlan, LeftAlone, Allocation)

    @property
    def budget(self) -> Budget:
        """What is asked; refused where it cannot be meant."""
        wishes = (self.size, self.bpw, self.latency, self.max_kl, self.prefer, self.minimise)
        return Budget.parse(*wishes)

    def run(self, model: ir.Model) -> None:
        budget = self.budget
        problem, notes = problem_of(model, self.types, self.rules, self.keep, self.rest)
        if budget.timed and not problem.timed:
            raise LadderError("latency is asked and there are no ProductCosts: measure them first")
        put_allocation(model, problem, allocate(problem, budget), str(budget), notes)


def problem_of(
    model: ir.Model,
    types: Sequence[DType] = (),
    rules: Sequence[Rule] = (),
    keep: Sequence[str] = (),
    rest: str = "",
) -> tuple[Problem, tuple[str, ...]]:
    """The allocation problem of a model with its facts, and notes on what is not counted."""
    sensitivity, costs = facts.get(model, Sensitivity), facts.get(model, ProductCosts)
    assert sensitivity is not None
    names = candidates(types or _measured(sensitivity))
    sites = find_sites(model)[0]
    groups = groups_of(sites)
    fixed, muxing = fixed_groups(groups, rules, keep), facts.get(model, Muxing)
    parts, notes = parts_of(groups, fixed, names, sensitivity, costs, muxing)
    problem = Problem(
        parts,
        names,
        sensitivity.metric,
        costs is not None,
        _rest_bytes(model, sites),
        parse_time("rest", rest) if rest else 0.0,
    )
    return problem, notes


def put_allocation(
    model: ir.Model, problem: Problem, found: Allocated, asked: str, notes: tuple[str, ...]
) -> None:
    """Leave a choice as facts: the plan, what it leaves alone, and what it is expected to be."""
    put_choices(model, *rows_of(problem, found.picks))
    costs = facts.get(model, ProductCosts)
    uniform = {type: numbers(problem, totals) for type, totals in found.uniform.items()}
    facts.put(
        model,
        Allocation(
            asked,
            found.goal,
            problem.metric,
            found.status,
            numbers(problem, found.totals),
            uniform,
            _least(problem),
            found.fitting,
            costs.source if costs else "",
            notes,
        ),
    )


def rows_of(problem: Problem, picks: Picks) -> tuple[dict[str, Choice], dict[str, str]]:
    """The choices with their reasons, and what stays float, by site."""
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


def numbers(problem: Problem, totals: Totals) -> dict[str, float]:
    """Totals as a fact has them: times only where they mean something."""
    rows = asdict(totals)
    return {k: v for k, v in rows.items() if problem.timed or k not in TIMES}


def _reason(part: Part, chosen: Option, label: str) -> str:
    """``KL 0.0012 at int4:g128; int3:g64 would cost 0.009``: beside the next smaller type."""
    smaller = [o for o in part.options if o.bits < chosen.bits]
    larger = [o for o in part.options if o.bits > chosen.bits]
    text = f"{label} {show_number(chosen.loss)} at {chosen.type}"
    if smaller:
        other = max(smaller, key=lambda o: o.bits)
        return f"{text}; {other.type} would cost {show_number(other.loss)}"
    if larger:
        other = min(larger, key=lambda o: o.bits)
        return f"{text}; {other.type} would have {show_number(other.loss)}"
    return text


def _least(problem: Problem) -> dict[str, float]:
    bits = problem.least("bits")
    least = Totals(
        problem.least("loss"),
        problem.rest_bytes + bits / 8,
        bits / problem.parameters,
        problem.rest_seconds + problem.least("seconds"),
        problem.least("prefill"),
    )
    return numbers(problem, least)


def _measured(sensitivity: Sensitivity) -> list[DType]:
    """The types in which every site was measured, in the order of the first site."""
    rows = list(sensitivity.scores.values())
    names = [t for t in (rows[0] if rows else {}) if all(t in row for row in rows)]
    return [DType.parse(name) for name in names]


def _rest_bytes(model: ir.Model, sites: list[Site]) -> float:
    """Bytes of the constants that are no site's weight; they stay as they are."""
    weights = {id(site.weight) for site in sites}
    values = [v for graph in model.graphs() for v in graph.initializers.values()]
    return float(
        sum(v.const_value.nbytes for v in values if v.const_value and id(v) not in weights)
    )
