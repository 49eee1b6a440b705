"""The plans that are compared, as plan files: uniform ones, and mixes of the same size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ladder
from benchmarks.compare_fills import Fills, blocks_of
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.facts import Sensitivity
from ladder.options.requests import PlanOptions
from ladder.passes.allocate_bits import problem_by, rows_of
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.pipeline.plan_file import FLOAT_TYPE, Plan, read_plan, write_plan
from ladder.planning.inputs import sensitivity_of

ROUNDING = "mse"  # of all plans and all scores
WIDE_ROLE, HEAD = "mamba.x_proj", "lm_head"


@dataclass(frozen=True)
class Planner:
    """Makes the plans of a model, of two types or more, in ``folder``.

    ``calib`` is the calibration text, by default Ladder's own.
    """

    source: Source
    model: Path
    types: tuple[str, ...]
    budgets: tuple[str, ...]  # bits per weight
    folder: Path
    calib: Path | None = None

    def plans(self) -> dict[str, Path]:
        """Name -> plan file."""
        return {name: path for name, path in self._plans()}

    def _plans(self) -> Iterator[tuple[str, Path]]:
        types = tuple(map(DType.parse, self.types))
        options = PlanOptions(bpw=self.budgets[0], types=types, calib=self.calib, rounding=ROUNDING)
        scores = sensitivity_of(self.source, options)
        by_kl, by_sqnr = (self._problem(s) for s in (scores, noise_of(scores)))
        for type in reversed(self.types):
            yield f"uniform `{type}`", self._write(f"uniform {type}", by_kl, by_kl.uniform(type))
        for bpw in self.budgets:
            yield f"KL, {bpw} bits", self._product(bpw)
            budget = Budget.of({"bpw": bpw})
            picks = allocate(by_sqnr, budget).picks
            yield f"SQNR, {bpw} bits", self._write(f"SQNR {bpw}", by_sqnr, picks)
            picks = rule(by_kl, blocks_of(self.source, by_kl), float(bpw))
            yield f"rule, {bpw} bits", self._write(f"rule {bpw}", by_kl, picks)

    def _problem(self, scores: Sensitivity) -> Problem:
        return problem_by(self.source.model, scores, self.types)[0]

    def _product(self, bpw: str) -> Path:
        """The plan of ``ladder plan``."""
        path = self.folder / f"KL-{bpw}.toml"
        ladder.plan(
            self.model,
            path,
            bpw=bpw,
            types=self.types,
            calib=self.calib,
            rounding=ROUNDING,
            verify=False,
        )
        return path

    def _write(self, name: str, problem: Problem, picks: Picks) -> Path:
        path = self.folder / f"{name.replace(' ', '-').replace(':', '-')}.toml"
        chosen, _ = rows_of(problem, picks)
        names = [name for part in problem.parts for name in part.names]
        sites = {n: chosen[n].type if n in chosen else FLOAT_TYPE for n in names}
        write_plan(path, Plan(self.source.origin, self.source.digest, sites, {"budget": name}))
        return path


def noise_of(scores: Sensitivity) -> Sensitivity:
    """The same measurements, with the noise of the logits over their power as the loss.

    SQNR is minus ten times its logarithm. As a ratio it adds up over sites, so the exact solver
    serves SQNR as well as KL.
    """
    rows = {
        site: {type: {"mse": 10 ** (-row["sqnr"] / 10)} for type, row in types.items()}
        for site, types in scores.scores.items()
    }
    return Sensitivity("mse", rows, scores.tokens, scores.text)


def rule(problem: Problem, blocks: Sequence[int], bpw: float) -> Picks:
    """The larger type for every x_proj, then from the last block to the first, where it fits.

    The head, which is the embedding too, comes last.
    """

    def turn(i: int) -> tuple[bool, bool, int]:
        roles = problem.parts[i].role.split("+")
        return WIDE_ROLE not in roles, HEAD in roles, -blocks[i]

    order = sorted(range(len(problem.parts)), key=turn)
    fills = Fills(problem, problem.types, tuple(blocks), bpw * problem.parameters)
    return fills.filled(order, pass_over=True)


def mark_of(path: Path) -> str:
    """What a measurement of a plan depends on: the types of its sites."""
    return str(sorted((name, str(type)) for name, type in read_plan(path).sites.items()))
