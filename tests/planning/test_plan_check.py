"""The real run of a plan, block by block, compared with a run of the whole model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_graphs import graph, random

import ladder
from ladder.blockwise.weights import Group
from ladder.calibration.data import language_model_feeds
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Sensitivity
from ladder.ir.site import find_sites
from ladder.passes.allocate_bits import problem_of, rows_of
from ladder.passes.allocation.problem import Picks, Problem
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.planning.evaluate_plan import PlanEvaluator
from ladder.reference import Reference
from ladder.sensitivity.divergence import LOGITS, Expected, Sums, kind_of

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]

TYPES = ("int2:g32", "int4:g32", "int8:row")
Feeds = list[dict[str, np.ndarray]]


def rounded(group: Group, dtype: DType) -> np.ndarray:
    return group.rounded(dtype, "mse")


def problem(source: Source, metric: str = "kl") -> Problem:
    """A problem with arbitrary scores, since the run is tested."""
    score = {t: {metric: 1 / (i + 1)} for i, t in enumerate(TYPES)}
    scores = {site.name: score for site in find_sites(source.model)[0]}
    facts.put(source.model, Sensitivity(metric, scores))
    return problem_of(source.model)[0]


def at_once(source: Source, made: Problem, picks: Picks, feeds: Feeds, logits: bool) -> float:
    """The loss with the compiler's own pass and one session for the whole model."""
    planned = facts.clone(source.model)
    facts.put(planned, BitPlan(rows_of(made, picks)[0]))
    run_passes(planned, [RoundWeights("mse")])
    name = source.model.graph.outputs[0].name or ""
    exact, changed = Reference(source.model), Reference(planned)
    sums, kind = [], LOGITS
    for window in feeds:
        output = exact.run(window)[name]
        kind = LOGITS if logits else kind_of(output)
        sums.append(Expected.of(output, kind).compare(changed.run(window)[name].copy()))
    return Sums.total(sums).scores(kind)[made.metric]


@pytest.fixture(scope="module")
def source(tiny_chat_folder: Path) -> Source:
    return ladder.load(tiny_chat_folder)


def test_it_is_the_run_of_the_whole_model(source: Source) -> None:
    """Mixed types, a site that stays float, and a weight that two blocks share."""
    made = problem(source)
    ids = np.random.default_rng(0).integers(1, 128, (3, 20))
    feeds = [language_model_feeds(source.states, row) for row in ids]
    check = PlanEvaluator(source.model, made, feeds, lambda types: rounded, logits=True)
    count = len(made.parts)
    assert any(len(part.names) > 1 for part in made.parts)  # tied
    for seed in range(3):
        picks = tuple(np.random.default_rng(seed).integers(0, len(TYPES), count).tolist())
        wanted = at_once(source, made, picks, feeds, logits=True)
        assert check.loss(picks) == pytest.approx(wanted, rel=1e-4)
        assert check.loss(picks) == check.loss(picks)


def test_kept_sites_stay_float(source: Source) -> None:
    problem(source)
    made = problem_of(source.model, keep="*")[0]
    ids = np.random.default_rng(0).integers(1, 128, 20)
    feeds = [language_model_feeds(source.states, ids)]
    check = PlanEvaluator(source.model, made, feeds, lambda types: rounded, logits=True)
    assert check.loss(tuple(0 for _ in made.parts)) == 0


CHAINS = {
    "two products": "h = MatMul(x, a) r = Relu(h) y = MatMul(r, b)",
    "the output is read again": "y = MatMul(x, a) z = MatMul(y, b)",
    "probabilities": "h = MatMul(x, a) y = Softmax<axis=-1>(h)",
}


@pytest.mark.parametrize("name", CHAINS)
def test_other_models(name: str) -> None:
    import onnx_ir as ir

    text = f"g (float[M, 64] x) => (float[M, N] y) {{ {CHAINS[name]} }}"
    weights = {"a": random(64, 64) / 8, "b": random(64, 32, seed=1) / 8}
    used = {k: v for k, v in weights.items() if f", {k})" in text}
    model = Source(ir.from_proto(graph(text, used, opset=25)), name, "")
    feeds = [{"x": row} for row in random(3, 5, 64, seed=2)]
    made = problem(model, "kl" if name == "probabilities" else "mse")
    picks = tuple(0 for _ in made.parts)
    loss = PlanEvaluator(model.model, made, feeds, lambda types: rounded, logits=False).loss(picks)
    assert loss > 0
    assert loss == pytest.approx(at_once(model, made, picks, feeds, False), rel=1e-4)
