"""Compares the allocated plan with plans made by hand, with the same bytes and the same rounding.

    python benchmarks/compare_fills.py MODEL --bpw 2.5,3,3.5,4.25 --state s.jsonl -o out.json

For each budget these are the best uniform plan that fits; fills, which begin with a uniform plan
and give the next larger type to one block after the other (from the first, from the last, in three
random orders) while it fits; and the hand rule, with lm_head and every block's ``down`` and ``v``
in the larger type. If only some of the types have zero points, there are fills with those and fills
with the others: the plan, which may use all types, is compared with the best of both. Every plan is
rounded, and its perplexity and KL are measured on a text that is not used in calibration.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

import ladder
from ladder.blockwise.weights import find_groups
from ladder.calibration.calibrate import hessians_of
from ladder.calibration.data import Data
from ladder.calibration.requested_data import long_data_of
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.calibration.texts import WIKIPEDIA, encode, wiki_text
from ladder.evaluation.evaluate import Score, evaluate
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.ir.site import find_sites
from ladder.options.requests import DEFAULT_TYPES, PlanOptions
from ladder.passes.allocate_bits import problem_of
from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.problem import Picks, Problem
from ladder.passes.rounding.threads import one_blas_thread
from ladder.planning.evaluate_plan import PlanEvaluator
from ladder.planning.inputs import sensitivity_of
from ladder.planning.refine import refine
from ladder.reference import ReferenceLanguageModel
from ladder.support.packages import package_file

WINDOW = 512
THREADS = 2
SEEDS = 3
HAND_RULE = ("lm_head", "mlp.down", "attn.v")


@dataclass(frozen=True)
class Fills:
    """Plans made without a sensitivity, of some of the types, within a number of bits."""

    problem: Problem
    types: tuple[str, ...]
    blocks: tuple[int, ...]  # of each part
    bits: float

    def plans(self) -> dict[str, Picks]:
        """Name -> plan, of those that fit; empty if no uniform plan of these types fits."""
        if not any(self._fits(picks) for picks in self._uniforms()):
            return {}
        order = sorted(range(len(self.blocks)), key=lambda i: self.blocks[i])
        found = {"uniform": self._uniform(), "first blocks wider": self.filled(order),
                 "last blocks wider": self.filled(order[::-1])}  # fmt: skip
        for seed in range(SEEDS):
            some = list(order)
            random.Random(seed).shuffle(some)
            found[f"random {seed}"] = self.filled(some)
        hand = self._hand()
        return found | ({"hand rule": hand} if hand else {})

    def _fits(self, picks: Picks) -> bool:
        chosen = zip(self.problem.parts, picks, strict=True)
        return sum(part.options[pick].along("bits") for part, pick in chosen) <= self.bits

    def _uniforms(self) -> list[Picks]:
        """The uniform plans, smallest first."""
        plans = [self.problem.uniform(type) for type in self.types]
        return sorted(plans, key=lambda picks: self.problem.totals(picks)["bytes"])

    def _uniform(self) -> Picks:
        return [picks for picks in self._uniforms() if self._fits(picks)][-1]

    def filled(self, order: Sequence[int], pass_over: bool = False) -> Picks:
        """The next larger type for one part after the other, as long as the plan fits.

        With ``pass_over`` a part that does not fit keeps its type, and the next is tried.
        """
        plans = self._uniforms()
        picks = self._uniform()
        wider = plans[min(plans.index(picks) + 1, len(plans) - 1)]
        for i in order:
            tried = (*picks[:i], wider[i], *picks[i + 1 :])
            if self._fits(tried):
                picks = tried
            elif not pass_over:
                break
        return picks

    def _hand(self) -> Picks | None:
        """The widest type for the roles of the rule, over the widest base that leaves room."""
        plans, best = self._uniforms(), None
        for base in plans:
            for wide in plans[plans.index(base) + 1 :]:
                parts = self.problem.parts
                picks = tuple(
                    wide[i] if any(r in HAND_RULE for r in part.role.split("+")) else base[i]
                    for i, part in enumerate(parts)
                )
                best = picks if self._fits(picks) else best
        return best


def main() -> None:
    words = _options()
    source = ladder.load(words.model)
    options = PlanOptions(
        bpw=words.bpw,
        types=tuple(map(DType.parse, words.types.split(","))),
        rounding=words.rounding,
        windows=words.windows,
        tokens=words.tokens,
        long_tokens=words.long_tokens,
        workers=words.workers,
        state=words.state,
    )
    known = hessians_of(source, options)
    facts.put(source.model, sensitivity_of(source, options, known))
    problem, _ = problem_of(source.model, options.types)
    tokens = _unseen(source, words.limit)
    seen = long_data_of(source, options)
    original = ReferenceLanguageModel(source.model, source.states, WINDOW)
    rows: list[dict[str, object]] = []
    rounder = RoundedWeights(source, options.rounding, known)
    for bpw in words.bpw.split(","):
        planned = _planned(source, problem, Budget.of({"bpw": bpw}), seen, rounder, words.refine)
        fills = _fills(problem, blocks_of(source, problem), float(bpw) * problem.parameters)
        scores: dict[Picks, Score] = {}
        print(f"\n{bpw} bits per weight, {options.rounding}, {len(tokens)} tokens", flush=True)
        for name, picks in {"the plan": planned, **fills}.items():
            if picks not in scores:
                model = ReferenceLanguageModel(
                    _with(source, problem, picks, rounder), source.states, WINDOW
                )
                scores[picks] = evaluate(model, tokens, WINDOW, original)
            score, totals = scores[picks], problem.totals(picks)
            print(f"  {name:32s} {totals['bpw']:.3f} bpw  perplexity {score.perplexity:9.2f}  "
                  f"KL {score.kl_mean:.4f}", flush=True)  # fmt: skip
            rows.append({"budget": bpw, "plan": name, "bpw": totals["bpw"], **score.json()})
            words.output.write_text(json.dumps(rows, indent=1))


def _fills(problem: Problem, blocks: tuple[int, ...], bits: float) -> dict[str, Picks]:
    """Name -> plan, of the types with zero points and of those without."""
    plain = tuple(t for t in problem.types if not DType.parse(t).zero_point)
    zeros = tuple(t for t in problem.types if DType.parse(t).zero_point)
    found = Fills(problem, plain, blocks, bits).plans() if plain else {}
    others = Fills(problem, zeros, blocks, bits).plans() if zeros else {}
    return found | {f"{name}, zero points": picks for name, picks in others.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--bpw", default="2.5,3,3.5,4.25")
    parser.add_argument("--types", default=",".join(DEFAULT_TYPES))
    parser.add_argument("--rounding", default="mse")
    parser.add_argument("--refine", type=int, default=0, help="rounds of refining the plan")
    parser.add_argument("--windows", type=int, default=8, help="windows of calibration text")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per calibration window")
    parser.add_argument("--long-tokens", type=int, default=0, help="tokens per long window")
    parser.add_argument("--limit", type=int, default=8192, help="evaluation tokens")
    parser.add_argument("--workers", default="0")
    parser.add_argument("--state", type=Path, required=True, help="file of sensitivity scores")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def _unseen(source: Source, limit: int) -> list[int]:
    """Windows taken evenly from the articles that calibration does not use, concatenated."""
    text = wiki_text(package_file(*WIKIPEDIA))
    ids = encode(source, text[: len(text) // 2])
    count = max(limit // WINDOW, 1)
    step = (len(ids) - WINDOW) // count
    return [t for i in range(count) for t in ids[i * step : i * step + WINDOW]]


def blocks_of(source: Source, problem: Problem) -> tuple[int, ...]:
    """The residual block of each part's last site: a tied embedding counts as lm_head."""
    chain = find_blocks(source.model)
    blocks = {site.name: chain.block_of(site.node) for site in find_sites(source.model)[0]}
    return tuple(max(blocks[name] for name in part.names) for part in problem.parts)


def _with(source: Source, problem: Problem, picks: Picks, rounder: RoundedWeights) -> ir.Model:
    """The float model with the weights of a plan."""
    model = facts.clone(source.model)
    groups = {g.name: g for g in find_groups(source.model, find_blocks(source.model))}
    chosen = zip(problem.parts, picks, strict=True)
    work = [(groups[part.names[0]], DType.parse(part.options[k].type)) for part, k in chosen]
    with ThreadPoolExecutor(THREADS) as pool, one_blas_thread():
        arrays = list(pool.map(lambda pair: rounder(*pair), work))
    for (group, _), array in zip(work, arrays, strict=True):
        name = group.weight_name
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


def _planned(
    source: Source,
    problem: Problem,
    budget: Budget,
    data: Data,
    rounder: RoundedWeights,
    rounds: int,
) -> Picks:
    """The plan of ``ladder plan`` for the budget."""
    picks = allocate(problem, budget).picks
    check = PlanEvaluator(source.model, problem, data.feeds, lambda types: rounder, logits=True)
    done = refine(source.model, data, check, rounder, budget, picks, check.loss(picks), rounds)
    print(f"  refined in {done.rounds} rounds to {done.loss:.4f} on the calibration text")
    return done.picks


if __name__ == "__main__":
    main()
