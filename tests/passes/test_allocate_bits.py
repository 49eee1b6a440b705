"""Allocation: optimal by brute force, never worse than uniform, with clear refusals."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Allocation, BitPlan, ProductCosts, Sensitivity, Skipped
from ladder.ir.site import find_sites
from ladder.passes.allocate_bits import problem_of
from ladder.passes.allocation.axes import LATENCY, SIZE, Axis
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.front import front
from ladder.passes.allocation.problem import Option, Part, Picks, Problem, Totals
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.support.units import show_size, show_time

TYPES = ("int2:g32", "int3:g32", "int4:g32", "int8:row")
EXACT = 1e-9


def instance(seed: int, parts: int = 5, types: int = 4, rest: bool = True) -> Problem:
    """A random problem: more bits mostly lose less; times roughly follow bits."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(parts):
        n = int(random.integers(8, 500))
        weight = np.exp(random.normal(0, 1.5))
        options = tuple(
            Option(
                TYPES[j],
                {
                    "loss": float(weight * 0.3**j * np.exp(random.normal(0, 0.6))),
                    "bits": int(n * (2 + j) + random.integers(0, 5)),
                    "seconds": float((1 + j + random.normal(0, 0.7) ** 2) * n * 1e-6),
                    "prefill": float((2 + random.normal(0, 0.7) ** 2) * n * 1e-6),
                },
            )
            for j in range(types)
        )
        fixed = seed % 3 == 0 and number == 1
        made.append(Part((f"s{number}",), "linear", n, options[:1] if fixed else options))
    overhead = {"bytes": 1000.0, "seconds": 1e-4} if rest else {}
    return Problem(tuple(made), TYPES[:types], "kl", True, overhead)


def all_plans(problem: Problem) -> list[tuple[Picks, Totals]]:
    every = itertools.product(*(range(len(part.options)) for part in problem.parts))
    return [(picks, problem.totals(picks)) for picks in every]


def between(problem: Problem, axis: str, share: float) -> float:
    values = [totals[axis] for _, totals in all_plans(problem)]
    return min(values) + share * (max(values) - min(values))


Asks = Callable[[Problem, float], tuple[Budget, Callable[[Totals], bool], str]]
KINDS: dict[str, Asks] = {
    "size": lambda p, s: (
        Budget({"size": (b := between(p, "bytes", s))}),
        lambda t: t["bytes"] <= b,
        "loss",
    ),
    "bpw": lambda p, s: (
        Budget({"bpw": (b := between(p, "bpw", s))}),
        lambda t: t["bpw"] <= b,
        "loss",
    ),
    "latency": lambda p, s: (
        Budget({"latency": (b := between(p, "seconds", s))}),
        lambda t: t["seconds"] <= b * (1 + EXACT),
        "loss",
    ),
    "max-kl": lambda p, s: (
        Budget({"max_kl": (b := between(p, "loss", s**4))}),
        lambda t: t["loss"] <= b * (1 + EXACT),
        "bytes",
    ),
    "max-kl, fastest": lambda p, s: (
        Budget({"max_kl": (b := between(p, "loss", s**4))}, minimise="latency"),
        lambda t: t["loss"] <= b * (1 + EXACT),
        "seconds",
    ),
}


@pytest.mark.parametrize("share", [0.0, 0.15, 0.4, 0.75, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_no_plan_is_better(kind: str, share: float) -> None:
    for seed in range(6):
        problem = instance(seed)
        budget, fits, goal = KINDS[kind](problem, share)
        best = min(t[goal] for _, t in all_plans(problem) if fits(t))
        found = allocate(problem, budget)
        assert fits(found.totals), f"seed {seed}"
        assert found.totals[goal] == pytest.approx(best, rel=EXACT), f"seed {seed}"


def test_two_limits_at_once() -> None:
    for seed in range(8):
        problem = instance(seed)
        size, most = between(problem, "bytes", 0.6), between(problem, "seconds", 0.5)
        fitting = [t for _, t in all_plans(problem) if t["bytes"] <= size and t["seconds"] <= most]
        found = allocate(problem, Budget({"size": size, "latency": most}))
        assert found.totals["loss"] == pytest.approx(min(t["loss"] for t in fitting), rel=EXACT)


def preferred(problem: Problem, weights: dict[str, float], totals: Totals) -> float:
    axes = {"memory": "bytes", "latency": "seconds", "accuracy": "loss"}
    uniform = [problem.totals(problem.uniform(type)) for type in problem.types]
    value = 0.0
    for name, weight in weights.items():
        ends = [plan[axes[name]] for plan in uniform]
        value += weight * totals[axes[name]] / (max(ends) - min(ends))
    return value


def test_preferences_are_in_units_of_the_uniform_range() -> None:
    for seed in range(6):
        problem = instance(seed, rest=False)
        weights = {"memory": 1.0, "latency": 2.0, "accuracy": 1.0 + seed}
        text = ",".join(f"{k}={v}" for k, v in weights.items())
        found = allocate(problem, Budget.of({"prefer": text}))
        best = min(preferred(problem, weights, t) for _, t in all_plans(problem))
        assert preferred(problem, weights, found.totals) == pytest.approx(best, rel=EXACT)
    only = allocate(problem, Budget.of({"prefer": "accuracy=1"}))
    assert only.totals["loss"] == min(t["loss"] for _, t in all_plans(problem))


@pytest.mark.parametrize("kind", ["size", "bpw", "latency"])
def test_never_worse_than_a_uniform_plan_that_fits(kind: str) -> None:
    for seed in range(4):
        problem = instance(seed, parts=40)
        for type in problem.types:
            plan = problem.totals(problem.uniform(type))
            budgets = {
                "size": Budget({"size": plan["bytes"]}),
                "bpw": Budget({"bpw": plan["bpw"]}),
                "latency": Budget({"latency": plan["seconds"]}),
            }
            found = allocate(problem, budgets[kind])
            assert type in found.fitting
            assert found.totals["loss"] <= min(found.uniform[t]["loss"] for t in found.fitting)


def test_ties_go_to_the_smaller_type_every_time() -> None:
    rows = (("b", 0.5, 40), ("a", 0.5, 30), ("c", 0.2, 50))
    options = tuple(
        Option(type, {"loss": loss, "bits": bits, "seconds": 0.0, "prefill": 0.0})
        for type, loss, bits in rows
    )
    problem = Problem(
        tuple(Part((f"s{i}",), "linear", 10, options) for i in range(6)), ("a", "b", "c")
    )
    found = allocate(problem, Budget({"bpw": 4.0}))
    chosen = [part.options[i].type for part, i in zip(problem.parts, found.picks, strict=True)]
    assert sorted(chosen) == ["a", "a", "a", "c", "c", "c"]
    assert all(allocate(problem, Budget({"bpw": 4.0})).picks == found.picks for _ in range(3))


def test_hundreds_of_sites_take_about_a_second() -> None:
    problem = instance(1, parts=300)
    allocate(problem, Budget({"bpw": 3.0}))  # SciPy is loaded
    start = time.perf_counter()
    allocate(problem, Budget({"bpw": 3.3}))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("axis", [SIZE, LATENCY], ids=lambda axis: axis.name)
def test_the_front_is_the_front(axis: Axis) -> None:
    problem, name = instance(4), axis.key
    plans = [t for _, t in all_plans(problem)]
    points = front(problem, axis, 12)
    assert len(points) > 5
    for point in points:
        cost, loss = point.totals[name], point.totals["loss"]
        assert not [t for t in plans if t[name] <= cost and t["loss"] < loss * (1 - EXACT)]
    costs = [p.totals[name] for p in points]
    losses = [p.totals["loss"] for p in points]
    assert costs == sorted(costs) and losses == sorted(losses, reverse=True)
    assert losses[-1] == min(t["loss"] for t in plans)


# The pass on a model: embedding and head share a weight, with two products between them.
MODEL = """g (int64[M] i) => (float[M, 64] y) {
  x = Gather("embed_tokens.weight", i)
  a = MatMul(x, "up_proj.weight")
  b = MatMul(a, "down_proj.weight")
  t = Transpose<perm=[1, 0]>("embed_tokens.weight")
  y0 = MatMul(b, t)
  y = Add(y0, bias)
}"""


def model() -> ir.Model:
    weights = {
        "embed_tokens.weight": random(64, 32),
        "up_proj.weight": random(32, 96),
        "down_proj.weight": random(96, 32),
        "bias": random(64),
    }
    made: ir.Model = ir.from_proto(graph(MODEL, weights))
    return made


def measured(made: ir.Model, types: tuple[str, ...] = TYPES, metric: str = "kl") -> ir.Model:
    """The model with a loss for each site and type, and times that grow with the bits."""
    sites = find_sites(made)[0]
    scores = {
        site.name: {t: {metric: (i + 1) * 0.4**j} for j, t in enumerate(types)}
        for i, site in enumerate(sites)
    }
    facts.put(made, Sensitivity(metric, scores, 100, "test"))
    shapes = {f"{s.n}x{s.k}": s for s in sites}
    times = {
        t: {k: DType.parse(t).stored_bits(s.n, s.k) * 1e-9 for k, s in shapes.items()}
        for t in types
    }
    facts.put(made, ProductCosts(times, times, "test"))
    return made


def plan_of(made: ir.Model, text: str) -> dict[str, str]:
    run_passes(made, parse_pipeline(text))
    plan = facts.get(made, BitPlan)
    assert plan is not None
    return {name: str(choice.type) for name, choice in plan.choices.items()}


def reasons(made: ir.Model) -> dict[str, str]:
    plan, alone = facts.get(made, BitPlan), facts.get(made, Skipped)
    assert plan is not None and alone is not None
    return {**{n: c.reason for n, c in plan.choices.items()}, **alone.reasons}


def names(made: ir.Model) -> list[str]:
    return [site.name for site in find_sites(made)[0]]


def test_the_model_of_these_tests_has_a_tied_pair() -> None:
    sites = find_sites(model())[0]
    assert len({id(s.weight) for s in sites}) == 3 and len(sites) == 4


def test_the_pass_adds_plan_and_allocation() -> None:
    made = measured(model())
    plan = plan_of(made, "allocate-bits{bpw=4.5}")
    found = facts.get(made, Allocation)
    assert found is not None and found.status == "optimal" and found.asked == "bpw 4.5"
    assert set(plan) == set(names(made))
    assert found.predicted["bpw"] <= 4.5 and set(found.uniform) == set(TYPES)
    assert found.least["bpw"] == pytest.approx(found.uniform["int2:g32"]["bpw"])
    assert found.predicted["loss"] <= min(found.uniform[t]["loss"] for t in found.fitting)
    problem, _ = problem_of(made)
    assert problem.overhead["bytes"] == 64 * 4  # the bias
    shared = [site.name for site in find_sites(made)[0] if "embed" in (site.weight.name or "")]
    assert len({plan[name] for name in shared}) == 1
    assert sum("tied to" in reasons(made)[name] for name in shared) == 1


def test_bits_are_those_of_the_types() -> None:
    made = measured(model())
    run_passes(made, parse_pipeline("allocate-bits{bpw=9}"))
    found, four = facts.get(made, Allocation), DType.parse("int4:g32")
    assert found is not None
    bits = sum(four.stored_bits(n, k) for n, k in ((64, 32), (96, 32), (32, 96)))
    assert found.uniform["int4:g32"]["bpw"] == pytest.approx(bits / (64 * 32 + 2 * 32 * 96))
    assert found.uniform["int4:g32"]["bytes"] == pytest.approx(bits / 8 + 256)


def test_reasons_are_readable() -> None:
    made = measured(model())
    run_passes(made, parse_pipeline("allocate-bits{bpw=30,keep=*down*,rules=*up*=int3:g32}"))
    said = reasons(made)
    texts = sorted(said.values())
    assert "kept by --keep" in texts and "rule *up*=int3:g32" in texts
    free = [text for text in texts if text.startswith("KL ")]
    assert free and all("int8:row; int4:g32 would cost " in text for text in free)


def test_rules_and_keep_also_apply_to_tied_sites() -> None:
    made = measured(model())
    plan = plan_of(made, "allocate-bits{bpw=30,keep=embed}")
    assert set(plan) == {n for n in names(made) if "proj" in n}
    plan = plan_of(made, "allocate-bits{bpw=9,rules=*=int2:g32|mlp.up=int8:row}")
    assert plan["up_proj"] == "int8:row" and plan["down_proj"] == "int2:g32"


def test_a_rule_may_name_a_type_that_was_not_measured() -> None:
    made = measured(model())
    plan = plan_of(made, "allocate-bits{bpw=9,rules=mlp.up=nf4:g32}")
    found = facts.get(made, Allocation)
    assert plan["up_proj"] == "nf4:g32" and found is not None
    assert found.notes == (
        "up_proj: its loss in nf4:g32 was not measured; counted as 0",
        "up_proj: its time in nf4:g32 is not known; counted as 0",
    )


def test_types_restrict() -> None:
    plan = plan_of(measured(model()), "allocate-bits{bpw=9,types=int2:g32|int3:g32}")
    assert set(plan.values()) == {"int3:g32"}


def test_latency_includes_the_head_but_not_the_embedding() -> None:
    made = measured(model())
    run_passes(made, parse_pipeline("allocate-bits{latency=1s,overhead=2ms}"))
    found, four = facts.get(made, Allocation), DType.parse("int4:g32")
    assert found is not None
    bits = sum(four.stored_bits(n, k) for n, k in ((64, 32), (96, 32), (32, 96)))
    assert found.uniform["int4:g32"]["seconds"] == pytest.approx(2e-3 + bits * 1e-9)


REFUSED = [
    ("bpw=2", r"--bpw 2 cannot be met: the least reachable is 3 bits per weight with int2:g32"),
    ("size=1kB", r"--size 1kB cannot be met: the least reachable is 3\.\d+kB with"),
    ("latency=1us", r"--latency 1us cannot be met: the least reachable is 24.58us per token"),
    ("max-kl=0.001", r"--max-kl 0.001 cannot be met: the least reachable is 0.384 nats per token"),
    ("bpw=3.2,rules=mlp.up=int8:row", r"\(sites fixed by --rule or --keep: 1\)"),
    ("bpw=3.2,max-kl=1", r"--bpw 3.2 and --max-kl 1 cannot be met together: within --max-kl 1 "),
    ("bpw=0", "--bpw '0': write a positive number, for example 3.5"),
    ("bpw=nan", "--bpw 'nan': write a positive number"),
    ("size=180", "--size '180': write a positive number with a unit: 180MB or 96MiB"),
    ("latency=20", "--latency '20': write a positive number with a unit: 20ms"),
    ("prefer=speed=1", "--prefer 'speed=1': write memory, latency, accuracy, each at most once"),
    ("prefer=memory=-1", "--prefer 'memory=-1'"),
    ("prefer=memory=1/memory=2", "--prefer 'memory=2': .* at most once"),
    ("prefer=memory=0", "at least one number must be above 0"),
    ("minimise=cost", "--minimise 'cost': write one of loss, size, latency"),
    ("minimise=size", "no budget: say what the plan may cost with --bpw"),
    ("prefer=memory=1,minimise=size", "--prefer and --minimise both"),
    ("bpw=4,types=int4:g32", "--types: int4:g32 leaves nothing to choose; give two or more"),
    ("bpw=4,types=int4:g32|int4:g32", "--types: int4:g32 leaves nothing to choose"),
    ("bpw=4,types=int4:g32|fp16", "--types: 'fp16' is a float type; use --keep"),
    ("bpw=4,types=int4:g32|int9:g32", "unknown type 'int9:g32'"),
    ("bpw=4,types=int4:g32|nf4:g32", "was not measured in nf4:g32: measure-sensitivity"),
    ("bpw=4,rules=conv=int4:g32", "--rule 'conv' matches no site"),
    ("bpw=4,keep=conv", "--keep 'conv' matches no site"),
    ("bpw=4,rules=mlp.up", "write PATTERN=TYPE"),
    (
        "bpw=9,rules=mlp.up=int2:g32|mlp.up=int8:row",
        "rules contradict: --rule 'mlp.up=int2:g32' has no effect, since all of its sites are "
        "taken by rule mlp.up=int8:row",
    ),
    ("bpw=9,rules=mlp.up=int2:g32|*=int8:row", "rules contradict: --rule 'mlp.up=int2:g32'"),
    ("bpw=40,rules=mlp.up=int2:g32,keep=up_proj", "no effect, since .* kept by --keep"),
    ("bpw=9,rules=x=int2:g32|embed_tokens=int8:row", "sites that share a weight share its type"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: v[:40])
def test_refusals(options: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        plan_of(measured(model()), f"allocate-bits{{{options}}}")


def test_without_facts() -> None:
    with pytest.raises(LadderError, match=r"^pass allocate-bits needs Sensitivity; ran: nothing"):
        plan_of(model(), "allocate-bits{bpw=4}")
    made = measured(model())
    facts.put(made, Sensitivity("kl", {"other": {t: {"kl": 1.0} for t in TYPES}}))
    with pytest.raises(LadderError, match="was not measured: measure-sensitivity has to run on"):
        plan_of(made, "allocate-bits{bpw=4}")
    made = model()
    facts.put(made, Sensitivity("kl", {n: {t: {"kl": 1.0} for t in TYPES} for n in names(made)}))
    with pytest.raises(LadderError, match="a limit on latency needs the fact ProductCosts"):
        plan_of(made, "allocate-bits{latency=1s}")
    facts.put(made, ProductCosts({"int2:g32": {}}, {}, "test"))
    with pytest.raises(LadderError, match="there is no measured time of int2:g32 at "):
        plan_of(made, "allocate-bits{latency=1s}")


def test_a_loss_that_is_not_a_kl() -> None:
    made = measured(model(), metric="mse")
    with pytest.raises(LadderError, match="output is not a distribution, so its loss is not a KL"):
        plan_of(made, "allocate-bits{max-kl=1}")
    plan_of(made, "allocate-bits{bpw=9}")
    assert any(text.startswith("MSE ") for text in reasons(made).values())


def test_the_least_in_a_message_can_be_met() -> None:
    """It is rounded up in the message, so that the budget does not fail again."""
    for seed in range(10):
        problem = instance(seed)
        least = problem.totals(allocate(problem, Budget.of({"prefer": "memory=1"})).picks)
        allocate(problem, Budget.of({"size": show_size(least["bytes"], up=True)}))
        fast = problem.totals(allocate(problem, Budget.of({"prefer": "latency=1"})).picks)
        allocate(problem, Budget.of({"latency": show_time(fast["seconds"], up=True)}))
