"""``ladder plan``: measure sensitivity and costs, allocate types, and run the plan once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ladder.calibration.calibrate import hessians_of
from ladder.calibration.outliers import provisionally_muxed
from ladder.calibration.requested_data import long_data_of
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.facts import Allocation
from ladder.options.requests import PlanOptions
from ladder.options.schema import refuse_inapplicable
from ladder.passes.allocate_bits import put_allocation
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.problem import Problem
from ladder.passes.infra.base import Pass
from ladder.passes.muxing.report import outlier_notes
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.plan_file import Plan, plan_of, write_plan
from ladder.pipeline.prepare import ready
from ladder.pipeline.report import assumed_texts
from ladder.pipeline.rounding_choice import with_rounding
from ladder.planning import pareto
from ladder.planning.choice import choose_plan
from ladder.planning.cost_estimate import cost_text
from ladder.planning.explain import bounds, candidates_of, fronts_of, limits
from ladder.planning.inputs import sensitivity_of
from ladder.planning.times import (
    attach_product_costs,
    expected_bytes,
    refuse_unreachable,
    timed_problem,
    with_other_bytes,
)
from ladder.planning.verdict import verdict
from ladder.support.progress import note
from ladder.support.results import MISSING, Result

OTHER_BYTES = "other_bytes"  # under asked: what a size counts that is not weights


@dataclass
class PlanReport(Result):
    """The result of ``ladder plan``: the plan if there is a budget, and the front.

    ``uniform`` and ``predicted`` have totals by name: ``loss`` in ``metric``, ``bytes``, ``bpw``,
    ``seconds`` per decoded token, ``prefill`` seconds per prefill chunk. ``plan`` is site -> type.
    ``verdict`` says in words whether the result can be used.
    """

    model: str
    types: list[str]
    metric: str
    text: str
    sites: int
    assumed: list[str]
    notes: list[str]
    uniform: dict[str, dict[str, float]]
    fronts: dict[str, list[dict[str, Any]]] = MISSING
    asked: str = MISSING
    minimised: str = MISSING
    status: str = MISSING
    predicted: dict[str, float] = MISSING
    measured: dict[str, Any] = MISSING
    fitting: list[str] = MISSING
    least: dict[str, float] = MISSING
    costs: str = MISSING
    plan: dict[str, str] = MISSING
    reasons: dict[str, str] = MISSING
    verdict: str = MISSING


@dataclass
class Planned:
    """The plan, if one was asked for, and the report."""

    plan: Plan | None
    report: PlanReport

    def save(self, path: Path) -> None:
        """Write the plan file."""
        if self.plan is None:
            raise LadderError("there is no plan to write: give a budget, for example --bpw 3.5")
        write_plan(path, self.plan)

    def draw(self, path: Path) -> None:
        """Draw the front and the plan on it."""
        chosen = self.report.get("predicted")
        metric, title = self.report["metric"], Path(self.report["model"]).name
        pareto.draw(path, self.report["fronts"], self.report["uniform"], chosen, metric, title)


def plan_model(
    model: str | Path | Source,
    options: PlanOptions,
    prepare: Sequence[Pass] = PREPARE,
    others: int | None = None,
) -> Planned:
    """Measure what is not known yet, choose a plan, and run it once.

    ``prepare`` does to the model what compiling or quantizing does before it looks for sites.
    ``others`` are bytes that a limit on size counts in addition to the weights; if they are not
    given, an estimate of what an artifact holds. The plan has them under ``asked``.
    """
    options.check()
    original, budget = ready(model, prepare, options.trust_remote_code), options.budget
    # Times are measured for a chunk of any model.
    refuse_inapplicable(options, original.is_language_model, original.origin, ("chunk",))
    options = with_rounding(options, original)
    if options.long_tokens:
        long_data_of(original, options)  # refuses invalid data before any work
    source = provisionally_muxed(original, options)
    attach_product_costs(source, options)
    if others is None:
        others = expected_bytes(source, options, budget) if prepare == PREPARE else 0
    if budget is not None:
        refuse_unreachable(source, options, budget, others)
    if cost := cost_text(original, options):
        note(f"the plan takes {cost}")
    found = sensitivity_of(source, options, hessians_of(source, options))
    facts.put(source.model, found)
    notes: list[str] = [*source.notes, *outlier_notes(source.model)]
    problem = with_other_bytes(timed_problem(source, options, notes), others)
    uniform = {type: problem.totals(problem.uniform(type)) for type in problem.types}
    report = PlanReport(
        model=source.origin,
        types=list(problem.types),
        metric=problem.metric,
        text=f"{found.text} ({found.tokens} tokens)",
        sites=sum(len(part.names) for part in problem.parts),
        assumed=assumed_texts(options, None, source.is_language_model),
        notes=notes,
        uniform={type: problem.shown(row) for type, row in uniform.items()},
    )
    if options.pareto:
        report.fronts = pareto.fronts(problem)
    if budget is None:
        return Planned(None, report)
    made = _plan(source, original.digest, options, problem, budget, report)
    assert made.plan is not None
    asked = {**made.plan.asked, OTHER_BYTES: others}
    return replace(made, plan=replace(made.plan, asked=asked))


def _plan(
    source: Source,
    digest: str,
    options: PlanOptions,
    problem: Problem,
    budget: Budget,
    report: PlanReport,
) -> Planned:
    graph = source.model
    chosen = choose_plan(source, options, problem, budget, report.notes)
    put_allocation(graph, chosen.problem, chosen.found, str(budget), ())
    allocation = facts.need(graph, Allocation)
    metric, predicted = chosen.problem.metric, allocation.predicted["loss"]
    report.verdict = verdict(
        problem, chosen.measured.get(metric, predicted), metric in chosen.measured
    )
    asked = {
        "verdict": report.verdict,
        "types": list(problem.types),
        "rules": [str(rule) for rule in options.rules],
        "keep": list(options.keep),
        "target": options.target,
        "rounding": options.rounding,
        "text": report.text,
        "assumed": report.assumed,
        "notes": report.notes,
        "limits": limits(problem, budget),
        "bounds": bounds(problem, budget),
    }
    plan = plan_of(graph, source.origin, digest, **asked)
    plan = replace(
        plan,
        measured=chosen.measured,
        front=fronts_of(chosen.problem),
        candidates=candidates_of(chosen.problem),
    )
    report.asked, report.minimised = allocation.asked, allocation.minimised
    report.status, report.costs = allocation.status, allocation.costs
    report.predicted, report.least = dict(allocation.predicted), dict(allocation.least)
    report.uniform = {type: dict(row) for type, row in allocation.uniform.items()}
    report.measured, report.fitting = chosen.measured, list(allocation.fitting)
    report.plan = {name: str(type) for name, type in plan.sites.items()}
    report.reasons = {name: plan.comment(name) for name in plan.sites}
    return Planned(plan, report)
