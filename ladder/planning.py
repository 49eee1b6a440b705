"""``ladder plan``: sensitivity, costs, allocation, and one real run of what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder import pareto
from ladder.driver import load_source
from ladder.errors import LadderError, NothingToQuantize
from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.activation import check as check_activation
from ladder.ir.facts import Allocation, ProductCosts, Sensitivity
from ladder.ir.site import find_sites
from ladder.passes.allocate_bits import numbers, problem_of, put_plan
from ladder.passes.allocation.budget import Budget, parse_time
from ladder.passes.allocation.choose import Allocated, allocate
from ladder.passes.allocation.parts import LOOK_UP, candidates
from ladder.passes.allocation.problem import Problem
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.patterns import parse_rules
from ladder.passes.runner import run_passes
from ladder.plan_check import DECODE_CONTEXT, Check, decode_of, decode_seconds, faster, scaled
from ladder.plan_file import Plan, comments_of, plan_of, write_plan
from ladder.product_costs import product_costs
from ladder.progress import stage
from ladder.sensitivity import How, measure, measure_feeds
from ladder.sensitivity.calibration import calibration
from ladder.sensitivity.measure import language_model_feeds
from ladder.targets import NATIVE, levels_of, runs_here
from ladder.wish import Wish

DEFAULT_TYPES = ("int2:g64:fp16", "int3:g64:fp16", "int4:g64:fp16", "int8:row")
TIGHTENED = 3  # how often a KL limit is tightened where the real run goes over it
MARGIN = 0.98  # of the limit, when it is tightened
RETIMED = 2  # how often times are corrected by those of the plan itself
AGREEMENT = 0.03  # of predicted and measured time of a token


@dataclass(frozen=True)
class PlanWish:
    """What is asked of a plan; texts as on the command line, empty where nothing is asked."""

    size: str = ""
    bpw: str = ""
    latency: str = ""
    max_kl: str = ""
    prefer: str = ""
    minimise: str = ""
    types: tuple[str, ...] = DEFAULT_TYPES
    rules: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    calib: Path | None = None
    windows: int = 8
    tokens: int = 128
    rounding: str = "mse"
    workers: str = "0"
    state: Path | None = None
    target: str = NATIVE
    activation: str = "int8"
    chunk: int = 64
    costs: Path | None = None
    rest: str = ""
    pareto: bool = False
    verify: bool = True

    @property
    def budget(self) -> Budget | None:
        """None where the front alone is asked for."""
        texts = (self.size, self.bpw, self.latency, self.max_kl, self.prefer, self.minimise)
        return None if self.pareto and not any(texts) else Budget.parse(*texts)

    @property
    def timed(self) -> bool:
        """Whether times are worth measuring: they are asked for, or drawn."""
        budget = self.budget
        return self.pareto or self.costs is not None or (budget is not None and budget.timed)

    def check(self) -> None:
        """Refuse what cannot be meant before anything is loaded."""
        _ = self.budget
        candidates(self.types)
        parse_rules("|".join(self.rules))
        check_activation(self.activation)
        levels_of(self.target)
        if self.rest:
            parse_time("--rest", self.rest)
        for name in ("windows", "tokens", "chunk"):
            if getattr(self, name) < 1:
                raise LadderError(f"--{name} {getattr(self, name)}: give a positive number")
        if self.tokens < 2:
            raise LadderError("--tokens 1: a window is two tokens at least")


@dataclass
class Planned:
    """The result: the plan if one was asked for, and everything there is to say as JSON."""

    plan: Plan | None
    comments: dict[str, str]
    report: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the plan file."""
        if self.plan is None:
            raise LadderError("there is no plan to write: give a budget, for example --bpw 3.5")
        write_plan(path, self.plan, self.comments)

    def draw(self, path: Path) -> None:
        """Draw the front, and the plan in it."""
        chosen = self.report.get("predicted")
        metric, title = self.report["metric"], Path(self.report["model"]).name
        pareto.draw(path, self.report["fronts"], self.report["uniform"], chosen, metric, title)


def plan_model(model: str | Path | Source, wish: PlanWish) -> Planned:
    """Measure what is not known yet, choose, and run the choice once."""
    wish.check()
    source = load_source(model)
    graph = _ready(source)
    source = replace(source, model=graph)
    facts.put(graph, _sensitivity(source, wish))
    notes: list[str] = list(source.notes)
    problem = _timed_problem(graph, source, wish, notes)
    report: dict[str, Any] = {
        "model": source.origin,
        "types": list(problem.types),
        "metric": problem.metric,
        "sites": sum(len(part.names) for part in problem.parts),
        "notes": notes,
    }
    uniform = {type: problem.totals(problem.uniform(type)) for type in problem.types}
    report["uniform"] = {type: numbers(problem, row) for type, row in uniform.items()}
    if wish.pareto:
        report["fronts"] = pareto.fronts(problem)
    if wish.budget is None:
        return Planned(None, {}, report)
    return _plan(graph, source, wish, problem, report)


def _plan(
    graph: ir.Model, source: Source, wish: PlanWish, problem: Problem, report: dict[str, Any]
) -> Planned:
    budget, notes = wish.budget, report["notes"]
    assert budget is not None
    problem, found, measured = _chosen(graph, source, wish, problem, budget, notes)
    put_plan(graph, problem, found, str(budget), ())
    allocation = facts.get(graph, Allocation)
    assert allocation is not None
    asked = {
        "types": list(problem.types),
        "rules": list(wish.rules),
        "keep": list(wish.keep),
        "target": wish.target,
    }
    plan = replace(plan_of(graph, source.origin, source.digest, **asked), measured=measured)
    report |= {
        "asked": allocation.asked,
        "minimised": allocation.minimised,
        "status": allocation.status,
        "predicted": allocation.predicted,
        "uniform": allocation.uniform,
        "measured": measured,
        "fitting": list(allocation.fitting),
        "least": allocation.least,
        "costs": allocation.costs,
        "plan": plan.sites,
        "reasons": comments_of(graph),
    }
    return Planned(plan, comments_of(graph), report)


def _chosen(
    graph: ir.Model,
    source: Source,
    wish: PlanWish,
    problem: Problem,
    budget: Budget,
    notes: list[str],
) -> tuple[Problem, Allocated, dict[str, Any]]:
    """The allocation, checked by real runs; never worse than the best uniform plan that fits."""
    found = allocate(problem, budget)
    measured: dict[str, Any] = {}
    if wish.verify and budget.latency is not None and _decodes_here(source, wish):
        problem, found, measured["seconds"] = _in_time(source, wish, problem, budget, found, notes)
    if not wish.verify:
        notes.append("the plan was not run: its loss is a prediction")
        return problem, found, {}
    logits, windows = source.is_language_model, _windows(source, wish)
    check = Check(graph, problem, windows, wish.rounding, logits)
    loss = check.loss(found.picks)
    if budget.max_kl is not None and loss > budget.max_kl:
        found, loss = _tightened(check, problem, budget, found, loss, notes)
        measured.pop("seconds", None)  # of another plan
    measured[problem.metric] = loss
    if budget.goal == "loss" and not budget.prefer and found.fitting:
        best = min(found.fitting, key=lambda type: found.uniform[type].loss)
        picks = problem.uniform(best)
        other = loss if picks == found.picks else check.loss(picks)
        measured |= {"uniform": best, f"uniform_{problem.metric}": other}
        if other < loss:
            notes.append(
                f"{best} everywhere is measured better ({other:.4g}) than the mixed plan that was "
                f"predicted best ({loss:.4g}): it is the plan"
            )
            measured[problem.metric] = other
            measured.pop("seconds", None)  # of another plan
            status = "measured better than the predicted best"
            found = replace(found, picks=picks, totals=problem.totals(picks), status=status)
    return problem, found, measured


def _in_time(
    source: Source,
    wish: PlanWish,
    problem: Problem,
    budget: Budget,
    found: Allocated,
    notes: list[str],
) -> tuple[Problem, Allocated, float]:
    """Time the plan itself, and correct the times by it until prediction and measurement agree."""
    asked = budget.latency
    assert asked is not None
    for _ in range(RETIMED):
        seconds = decode_seconds(source, problem, found.picks, _uniform_wish(wish))
        factor = seconds / found.totals.seconds
        if abs(factor - 1) <= AGREEMENT:
            return problem, found, seconds
        try:
            corrected = faster(problem, factor)
            found, problem = allocate(corrected, budget), corrected
        except LadderError as error:
            notes.append(f"a token takes {1e3 * seconds:.3g} ms by this plan: {error}")
            return problem, found, seconds
    seconds = decode_seconds(source, problem, found.picks, _uniform_wish(wish))
    if abs(seconds / found.totals.seconds - 1) > AGREEMENT:
        notes.append(
            f"a token takes {1e3 * seconds:.3g} ms by this plan, {1e3 * found.totals.seconds:.3g} "
            "were predicted: times vary on this machine"
        )
    return problem, found, seconds


def _tightened(
    check: Check, problem: Problem, budget: Budget, found: Allocated, loss: float, notes: list[str]
) -> tuple[Allocated, float]:
    """Ask for less until the real run is within the limit, if that can be reached."""
    asked = budget.max_kl
    assert asked is not None
    limit, first = asked, loss
    for _ in range(TIGHTENED):
        limit *= MARGIN * asked / loss
        try:
            found = allocate(problem, replace(budget, max_kl=limit))
        except LadderError:
            break
        loss = check.loss(found.picks)
        if loss <= asked:
            notes.append(
                f"predicted {asked:.4g} was measured as {first:.4g}: the plan aims at a predicted "
                f"{limit:.4g}, and is measured as {loss:.4g}"
            )
            return found, loss
    notes.append(f"--max-kl {asked:.4g} is not met by the real run: {loss:.4g} nats a token")
    return found, loss


def _ready(source: Source) -> ir.Model:
    """The model with its sites in their final form."""
    graph = facts.clone(source.model)
    if not source.is_language_model:
        run_passes(graph, [CleanUp(), FuseOperators()])
    if not find_sites(graph)[0]:
        raise NothingToQuantize(f"{source.origin}: no weight may change type: nothing to plan")
    return graph


def _sensitivity(source: Source, wish: PlanWish) -> Sensitivity:
    """Every site in every type; what a state file or the cache has is not measured again."""
    how, types = How(wish.workers, state=wish.state), candidates(wish.types)
    if source.is_language_model:
        return measure(source, types, wish.calib, wish.windows, wish.tokens, wish.rounding, how)
    return measure_feeds(source, types, _samples(source, wish), wish.rounding, str(wish.calib), how)


def _windows(source: Source, wish: PlanWish) -> list[dict[str, np.ndarray]]:
    """What the model is fed for its sensitivity, once more for the whole plan."""
    if source.is_language_model:
        text = calibration(source, wish.calib, wish.windows, wish.tokens)
        return [language_model_feeds(source.model, ids) for ids in text.tokens]
    samples = _samples(source, wish)
    count = len(next(iter(samples.values())))
    return [{name: array[i] for name, array in samples.items()} for i in range(count)]


def _samples(source: Source, wish: PlanWish) -> dict[str, np.ndarray]:
    """Inputs by name, one sample a row, of a model that text cannot be fed to."""
    hint = "give samples of its inputs by name with --calib FILE.npz"
    if wish.calib is None:
        raise LadderError(f"{source.origin}: not a language model: {hint}")
    if not wish.calib.is_file():
        raise LadderError(f"{wish.calib}: no such file; {hint}")
    try:
        return dict(np.load(wish.calib))
    except (ValueError, OSError) as error:
        raise LadderError(f"{wish.calib}: not an NPZ file; {hint}") from error


def _timed_problem(graph: ir.Model, source: Source, wish: PlanWish, notes: list[str]) -> Problem:
    """The problem, with the costs of products where they are wanted."""
    options = ("|".join(candidates(wish.types)), "|".join(wish.rules), "|".join(wish.keep))
    if wish.timed:
        facts.put(graph, _costs(graph, wish))
    problem, said = problem_of(graph, *options, wish.rest)
    if wish.timed and not wish.rest:
        problem = _with_rest(graph, source, wish, problem, notes)
    notes += said
    costs = facts.get(graph, ProductCosts)
    if costs is not None:
        notes.append(f"times: {costs.source}")
    return problem


def _costs(graph: ir.Model, wish: PlanWish) -> ProductCosts:
    ruled = [str(t) for _, t in parse_rules("|".join(wish.rules)) if not t.is_float]
    types = dict.fromkeys((*candidates(wish.types), *ruled))
    shapes = {(s.n, s.k) for s in find_sites(graph)[0] if s.node.op_type != LOOK_UP}
    return product_costs(types, shapes, wish.chunk, wish.target, wish.activation, wish.costs)


def _with_rest(
    graph: ir.Model, source: Source, wish: PlanWish, problem: Problem, notes: list[str]
) -> Problem:
    """What a token takes beside its products, where it can be measured."""
    budget = wish.budget
    if budget is None or not budget.timed or not _decodes_here(source, wish):
        notes.append("latency counts products alone; give what else a token takes with --rest")
        return problem
    with stage("time two uniform plans"):
        decode = decode_of(source, problem, _uniform_wish(wish))
    costs = facts.get(graph, ProductCosts)
    assert costs is not None
    facts.put(graph, scaled(costs, decode))
    options = ("|".join(candidates(wish.types)), "|".join(wish.rules), "|".join(wish.keep))
    return replace(problem_of(graph, *options)[0], rest_seconds=decode.rest)


def _decodes_here(source: Source, wish: PlanWish) -> bool:
    """Whether a token's time can be measured, and was not given."""
    here = wish.costs is None and not wish.rest and runs_here(levels_of(wish.target)[-1])
    return here and source.is_language_model


def _uniform_wish(wish: PlanWish) -> Wish:
    """What a uniform plan is compiled with, to be timed: its weights' values do not matter."""
    return Wish(
        target=wish.target,
        rounding="rtn",
        activation=wish.activation,
        context=DECODE_CONTEXT,
        chunk=wish.chunk,
        keep=wish.keep,
        rules=wish.rules,
    )
