"""Times of plans: of their products, of the overhead of a token, and of a whole plan.

Products are timed alone. The overhead is found by running plans on this machine and comparing a
token's time with the sum of its products. For another machine the overhead has to be given.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ladder.frontend.types import Source
from ladder.hardware.targets import levels_of, runs_here
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import ProductCosts
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions, PlanOptions
from ladder.passes.allocate_bits import problem_by, problem_of
from ladder.passes.allocation.axes import LATENCY, SIZE
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.parts import FLOAT, candidates
from ladder.passes.allocation.problem import Option, Picks, Problem
from ladder.passes.infra.patterns import Rule
from ladder.passes.rounding.methods import QUICKEST
from ladder.planning.folder_size import other_bytes
from ladder.support.progress import stage
from ladder.timing.product_costs import product_costs, shapes_of

BENCH_CONTEXT = 128  # tokens in the cache while decoding is timed
DECODE_CONTEXT = 512  # tokens that the cache of the timed artifact holds
# A line through two measured plans is used only if its slope is plausible.
PLAUSIBLE = (0.5, 2.0)


def attach_product_costs(source: Source, options: PlanOptions) -> None:
    """Attach the costs of products to the model, if they are needed."""
    if options.timed:
        facts.put(source.model, _costs(source.model, options))


def with_other_bytes(problem: Problem, others: int) -> Problem:
    """The problem with more bytes next to the weights of sites."""
    bytes_ = problem.overhead.get(SIZE.key, 0.0) + others
    return replace(problem, overhead={**problem.overhead, SIZE.key: bytes_})


def expected_bytes(source: Source, options: PlanOptions, budget: Budget | None) -> int:
    """About what lies next to the weights, and no more than leaves room for the smallest plan."""
    expected = other_bytes(source, options)
    limit = budget.limit(SIZE) if budget is not None else None
    if limit is None:
        return expected
    problem = _unmeasured(source, options)
    room = limit - SIZE.total(problem, problem.least(SIZE.counted))
    return int(max(0, min(expected, room)))


def _unmeasured(source: Source, options: PlanOptions) -> Problem:
    """The problem before anything is measured: sizes only."""
    types = candidates(options.types)
    return problem_by(source.model, None, types, options.rules, options.keep, options.overhead)[0]


def refuse_unreachable(
    source: Source, options: PlanOptions, budget: Budget, others: int = 0
) -> None:
    """Refuse sizes that no plan reaches, and rules that contradict, before anything is measured."""
    problem = _unmeasured(source, options)
    known = budget.only(lambda axis: axis.known)
    if known.limits:
        allocate(with_other_bytes(problem, others), known)


def timed_problem(source: Source, options: PlanOptions, notes: list[str]) -> Problem:
    """The problem, with the overhead of a token where it can be measured."""
    problem, said = _problem(source, options)
    if options.timed and not options.overhead:
        problem = _with_measured_overhead(source, options, problem, notes)
    notes += said
    costs = facts.get(source.model, ProductCosts)
    if costs is not None:
        notes.append(f"times: {costs.source}")
    return problem


def _problem(source: Source, options: PlanOptions) -> tuple[Problem, tuple[str, ...]]:
    return problem_of(source.model, options.types, options.rules, options.keep, options.overhead)


def _costs(graph: ir.Model, options: PlanOptions) -> ProductCosts:
    ruled = [str(rule.type) for rule in options.rules if not rule.type.is_float]
    types = dict.fromkeys((*candidates(options.types), *ruled))
    shapes = shapes_of(find_sites(graph)[0])
    return product_costs(
        types,
        shapes,
        options.chunk,
        options.target,
        options.activation,
        options.costs,
        options.retime,
    )


def _with_measured_overhead(
    source: Source, options: PlanOptions, problem: Problem, notes: list[str]
) -> Problem:
    """The problem with the measured overhead of a token, where it can be measured."""
    budget = options.budget
    if budget is None or not budget.timed or not decodes_here(source, options):
        notes.append(
            "latency counts only the products; give the rest of a token's time with --overhead"
        )
        return problem
    with stage("time two uniform plans"):
        decode = decode_of(source, problem, decode_options(options))
    costs = facts.get(source.model, ProductCosts)
    assert costs is not None
    facts.put(source.model, _scaled(costs, decode))
    return _with_overhead(_problem(source, options)[0], decode.overhead)


def decodes_here(source: Source, options: PlanOptions) -> bool:
    """Whether the overhead can be measured here and was not given."""
    here = (
        options.costs is None and not options.overhead and runs_here(levels_of(options.target)[-1])
    )
    return here and source.is_language_model


def decode_options(options: PlanOptions) -> CompileOptions:
    """The options to compile a plan with for timing; the values of its weights do not matter."""
    return CompileOptions(
        target=options.target,
        rounding=QUICKEST,
        activation=options.activation,
        context=DECODE_CONTEXT,
        chunk=options.chunk,
        keep=options.keep,
        rules=options.rules,
    )


@dataclass(frozen=True)
class Decode:
    """The time of a decoded token is ``scale`` x the time of its products + ``overhead``."""

    scale: float
    overhead: float
    note: str


def decode_of(source: Source, problem: Problem, options: CompileOptions) -> Decode:
    """Compile and time the fastest and the slowest uniform plan, and fit a line through them.

    ``options`` has the target, the rules and the sites to keep; its type is not used.
    """
    sums = {type: problem.sum(problem.uniform(type), LATENCY.counted) for type in problem.types}
    fast, slow = (pick(sums, key=lambda type: sums[type]) for pick in (min, max))
    times = {
        type: _decode_seconds(source, replace(options, type=DType.parse(type)))
        for type in dict.fromkeys((fast, slow))
    }
    slope, overhead = _line([sums[type] for type in times], list(times.values()))
    note = (
        f"a token takes {slope:.3g} x its products + {1e3 * overhead:.3g} ms, "
        f"measured with {fast} and {slow} everywhere at a context of {BENCH_CONTEXT}"
    )
    return Decode(slope, overhead, note)


def decode_seconds(
    source: Source, problem: Problem, picks: Picks, options: CompileOptions
) -> float:
    """Measured seconds of a decoded token of a plan, compiled with a rule for each site."""
    chosen = [part.options[pick].type for part, pick in zip(problem.parts, picks, strict=True)]
    rules = [
        Rule(name, DType.parse(type))
        for part, type in zip(problem.parts, chosen, strict=True)
        for name in part.names
    ]
    one = next((type for type in chosen if type != FLOAT), problem.types[0])
    return _decode_seconds(
        source, replace(options, type=DType.parse(one), rules=tuple(rules), keep=())
    )


def faster(problem: Problem, factor: float) -> Problem:
    """The problem with every decoding time multiplied by ``factor``."""
    parts = tuple(
        replace(part, options=tuple(_scaled_time(option, factor) for option in part.options))
        for part in problem.parts
    )
    overhead = problem.overhead.get(LATENCY.key, 0.0)
    return _with_overhead(replace(problem, parts=parts), overhead * factor)


def _scaled_time(option: Option, factor: float) -> Option:
    seconds = option.along(LATENCY.counted) * factor
    return replace(option, costs={**option.costs, LATENCY.counted: seconds})


def _with_overhead(problem: Problem, seconds: float) -> Problem:
    return replace(problem, overhead={**problem.overhead, LATENCY.key: seconds})


def _line(sums: list[float], times: list[float]) -> tuple[float, float]:
    """Slope and overhead of tokens' times over products' times; slope 1 if it is not plausible."""
    spread = sums[-1] - sums[0]
    slope = (times[-1] - times[0]) / spread if spread > 0 else 0.0
    if not PLAUSIBLE[0] <= slope <= PLAUSIBLE[1]:
        slope = 1.0
    overhead = float(np.mean(times) - slope * np.mean(sums))
    if overhead < 0:  # the products are faster than when timed alone: there is only a slope
        return float(np.mean(np.array(times) / np.array(sums))), 0.0
    return slope, overhead


def _decode_seconds(source: Source, options: CompileOptions) -> float:
    """Measured seconds of a decoded token of the model compiled with ``options``."""
    import ladder.codegen.build  # noqa: F401  # or a cached plan's run would load TVM without it
    from ladder.pipeline.compile import compile_model
    from ladder.runtime.bench import bench_artifact

    with tempfile.TemporaryDirectory(prefix="ladder-decode-") as folder:
        artifact = compile_model(source, Path(folder) / "artifact", options).folder
        return float(1 / bench_artifact(artifact, BENCH_CONTEXT)["decode_tokens_per_s"])


def _scaled(costs: ProductCosts, decode: Decode) -> ProductCosts:
    """The costs with decoding times as measured within a token."""
    table = {
        type: {shape: seconds * decode.scale for shape, seconds in row.items()}
        for type, row in costs.decode.items()
    }
    return ProductCosts(table, costs.prefill, f"{costs.source}; {decode.note}")
