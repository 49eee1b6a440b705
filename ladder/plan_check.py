"""Plans against reality: the loss of a whole plan by one run, and what else a token takes.

Predictions add up what each site costs alone. Sites are not quite independent, so the plan that is
handed out is run once, and so is the uniform plan that it has to beat.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.facts import BitPlan, ProductCosts
from ladder.passes.allocate_bits import rows_of
from ladder.passes.allocation.parts import FLOAT
from ladder.passes.allocation.problem import Picks, Problem
from ladder.passes.round_weights import RoundWeights
from ladder.passes.runner import run_passes
from ladder.progress import track
from ladder.sensitivity.divergence import LOGITS, Expected, Sums, kind_of
from ladder.wish import Wish

Arrays = Mapping[str, np.ndarray]
BENCH_CONTEXT = 128  # tokens in the cache while decoding is timed
DECODE_CONTEXT = 512  # that the timed artifact has room for
# A line through two measured plans is taken where its slope is plausible.
PLAUSIBLE = (0.5, 2.0)


@dataclass
class Check:
    """Runs plans of one model on its calibration windows, against the float model."""

    model: ir.Model
    problem: Problem
    windows: Sequence[Arrays]
    rounding: str
    logits: bool

    def __post_init__(self) -> None:
        from ladder.reference import Reference

        reference, name = Reference(self.model, fast=True), self.model.graph.outputs[0].name or ""
        outputs = [reference.run(window)[name] for window in self.windows]
        kind = LOGITS if self.logits else kind_of(outputs[0])
        self._expected = [Expected.of(output, kind) for output in outputs]
        self._kind, self._output = kind, name

    def loss(self, picks: Picks) -> float:
        """What the output loses when the whole plan is carried out, in the problem's metric."""
        from ladder.reference import Reference

        planned = facts.clone(self.model)
        facts.put(planned, BitPlan(rows_of(self.problem, picks)[0]))
        run_passes(planned, [RoundWeights(self.rounding)])
        reference = Reference(planned)
        del planned
        sums = []
        pairs = list(zip(self._expected, self.windows, strict=True))
        for expected, window in track(pairs, "run the plan"):
            sums.append(expected.compare(reference.run(window)[self._output].copy()))
        return Sums.total(sums).scores(self._kind)[self.problem.metric]


@dataclass(frozen=True)
class Decode:
    """How a decoded token's time follows from its products': ``scale`` x products + ``rest``."""

    scale: float
    rest: float
    note: str


def decode_of(source: Source, problem: Problem, wish: Wish) -> Decode:
    """Compile the fastest and the slowest uniform plan, time them, and draw the line.

    ``wish`` has the target and what rules and keep fix; its type is not looked at.
    """
    sums = {
        type: problem.totals(problem.uniform(type)).seconds - problem.rest_seconds
        for type in problem.types
    }
    fast, slow = (pick(sums, key=lambda type: sums[type]) for pick in (min, max))
    times = {
        type: _decode_seconds(source, replace(wish, type=type))
        for type in dict.fromkeys((fast, slow))
    }
    slope, rest = _line([sums[type] for type in times], list(times.values()))
    note = (
        f"a token is {slope:.3g} x its products + {1e3 * rest:.3g} ms, "
        f"from {fast} and {slow} everywhere at a context of {BENCH_CONTEXT}"
    )
    return Decode(slope, rest, note)


def _line(sums: list[float], times: list[float]) -> tuple[float, float]:
    """Slope and rest of a token's times over its products'; plain where noise bends the line."""
    spread = sums[-1] - sums[0]
    slope = (times[-1] - times[0]) / spread if spread > 0 else 0.0
    if not PLAUSIBLE[0] <= slope <= PLAUSIBLE[1]:
        slope = 1.0
    rest = float(np.mean(times) - slope * np.mean(sums))
    if rest < 0:  # nothing is for free: the products themselves are faster than when timed alone
        return float(np.mean(np.array(times) / np.array(sums))), 0.0
    return slope, rest


def _decode_seconds(source: Source, wish: Wish) -> float:
    """Measured seconds of a decoded token of a uniform plan."""
    from ladder.driver import compile_model
    from ladder.runtime.bench import bench_artifact

    with tempfile.TemporaryDirectory(prefix="ladder-decode-") as folder:
        artifact = compile_model(source, Path(folder) / "artifact", wish).folder
        return float(1 / bench_artifact(artifact, BENCH_CONTEXT)["decode_tokens_per_s"])


def faster(problem: Problem, factor: float) -> Problem:
    """The problem with every time of decoding multiplied."""
    parts = tuple(
        replace(part, options=tuple(replace(o, seconds=o.seconds * factor) for o in part.options))
        for part in problem.parts
    )
    return replace(problem, parts=parts, rest_seconds=problem.rest_seconds * factor)


def decode_seconds(source: Source, problem: Problem, picks: Picks, wish: Wish) -> float:
    """Measured seconds of a decoded token of a plan: each site has a rule of its own."""
    chosen = [part.options[pick].type for part, pick in zip(problem.parts, picks, strict=True)]
    rules = [
        f"{name}={type}"
        for part, type in zip(problem.parts, chosen, strict=True)
        for name in part.names
    ]
    one = next((type for type in chosen if type != FLOAT), problem.types[0])
    return _decode_seconds(source, replace(wish, type=one, rules=tuple(rules), keep=()))


def scaled(costs: ProductCosts, decode: Decode) -> ProductCosts:
    """The costs as a token sees them."""
    table = {
        type: {shape: seconds * decode.scale for shape, seconds in row.items()}
        for type, row in costs.decode.items()
    }
    return ProductCosts(table, costs.prefill, f"{costs.source}; {decode.note}")
