"""The engine, compared with whole models under ONNX Runtime with one weight replaced."""

from __future__ import annotations

from pathlib import Path

import families
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.blockwise.weights import Group, Task, find_groups, rounder
from ladder.calibration.data import language_model_feeds
from ladder.errors import LadderError
from ladder.frontend.huggingface import trace_model
from ladder.frontend.types import Source, states_of
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.sources import load_source
from ladder.reference import Reference
from ladder.sensitivity.divergence import LOGITS, PROBABILITIES, VALUES, Expected, Sums
from ladder.sensitivity.engine import Engine
from ladder.sensitivity.measure import measure_feeds

WINDOWS, TOKENS, TYPES = 3, 16, ("int2:g32", "nf4:g16", "int8:row")


def with_weight(model: ir.Model, group: Group, type: str, method: str = "rtn") -> ir.Model:
    """A copy with one weight rounded to ``type`` and back."""
    copy = model.clone()
    value = copy.graph.initializers[group.weight_name]
    value.const_value = ir.tensor(group.rounded(DType.parse(type), method), name=value.name)
    return copy


def brute_force(logits: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Measures of [windows, tokens, V], in float64, as their definitions say."""
    x, y = logits.astype(np.float64), other.astype(np.float64)
    p, q = (v - np.log(np.exp(v).sum(-1, keepdims=True)) for v in (x, y))
    cosine = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return {
        "kl": float((np.exp(q) * (q - p)).sum(-1).mean()),
        "reverse_kl": float((np.exp(p) * (p - q)).sum(-1).mean()),
        "mse": float(np.square(y - x).mean()),
        "sqnr": float(10 * np.log10(np.square(x).sum() / np.square(y - x).sum())),
        "cosine": float(cosine.mean()),
    }


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 128, (WINDOWS, TOKENS))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> ir.Model:
    return load_source(tiny_folder).model


def engine_of(model: ir.Model, tokens: np.ndarray, limit: int | None = None) -> Engine:
    feeds = [language_model_feeds(states_of(model), ids) for ids in tokens]
    labels = [ids[1:] for ids in tokens]
    return Engine(model, feeds, rounder("rtn"), True, labels, threads=2, limit=limit)


def logits_of(model: ir.Model, tokens: np.ndarray) -> np.ndarray:
    reference = Reference(model, 1)
    feeds = [language_model_feeds(states_of(model), ids) for ids in tokens]
    return np.concatenate([reference.run(f)["logits"] for f in feeds])


@pytest.mark.models
def test_scores_are_those_of_the_whole_model(model: ir.Model, tokens: np.ndarray) -> None:
    """Two layers of seven, and the embedding, which is lm_head too."""
    assert len(compared(model, tokens)) == 15


@pytest.mark.models
def test_scores_of_a_recurrent_model(tokens: np.ndarray) -> None:
    """Blocks before the site are not run again, and each window begins with a reset state."""
    model = trace_model(families.build(families.RIGHT["Mamba"]()), {}, "Mamba", "digest").model
    run_passes(model, PREPARE)
    assert len(find_blocks(model).middle) == 2
    assert len(compared(model, tokens % families.VOCABULARY)) == 9


def compared(model: ir.Model, tokens: np.ndarray) -> list[Task]:
    """Candidates whose scores are those of whole runs, one for each weight."""
    engine, plain = engine_of(model, tokens), logits_of(model, tokens)
    groups = list(engine.groups.values())
    tasks = [Task(g.name, t) for i, g in enumerate(groups) for t in TYPES[i % 3 :][:1]]
    for task, found in zip(tasks, engine.score(tasks), strict=True):
        changed = with_weight(model, engine.groups[task.group], task.type)
        wanted = brute_force(plain, logits_of(changed, tokens))
        for measure, value in wanted.items():
            close = 1e-4 if measure == "sqnr" else 1e-6
            assert abs(found[measure] - value) <= close * max(1, abs(value)), (task, measure)
    return tasks


@pytest.mark.models
def test_tied_weights_are_measured_together(model: ir.Model) -> None:
    groups = find_groups(model, find_blocks(model))
    assert [s.role for s in groups[0].sites] == ["embed", "lm_head"]
    assert groups[0].blocks == (0, 3)


@pytest.mark.models
def test_neither_other_candidates_nor_memory_change_a_score(
    model: ir.Model, tokens: np.ndarray
) -> None:
    """Alone or in any order, in memory or on disk, with sessions kept or built again."""
    engine, scarce = engine_of(model, tokens), engine_of(model, tokens, limit=30_000)
    assert scarce.kept.on_disk > 0 and not scarce._programs
    tasks = [Task(name, "int4:g32") for name in engine.groups]
    together = engine.score(tasks)
    assert [engine.score([task])[0] for task in reversed(tasks)] == together[::-1]
    assert scarce.score(tasks) == together


@pytest.mark.models
def test_the_change_of_the_loss_is_that_of_the_next_tokens(
    model: ir.Model, tokens: np.ndarray
) -> None:
    def loss(logits: np.ndarray) -> float:
        x = logits[:, :-1].astype(np.float64)
        logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
        return float(-np.take_along_axis(logs, tokens[:, 1:, None], -1).mean())

    engine = engine_of(model, tokens)
    group = list(engine.groups.values())[3]
    found = engine.score([Task(group.name, "int2:g32")])[0]["loss_change"]
    changed = with_weight(model, group, "int2:g32")
    wanted = loss(logits_of(changed, tokens)) - loss(logits_of(model, tokens))
    assert abs(found - wanted) < 1e-6


def rows(seed: int, tokens: int = 5, size: int = 300) -> np.ndarray:
    return random(tokens, size, seed=seed) * 4


@pytest.mark.parametrize("distance", [1e-3, 1.0, 30.0, 1000.0])
def test_divergence_near_and_far(distance: float) -> None:
    """From differences that float32 hardly shows to logits whose exponent overflows."""
    x, y = rows(0), rows(0) + rows(1) / 4 * np.float32(distance)
    sums = Sums.total([Expected.of(x, LOGITS).compare(y.copy())])
    far = y.astype(np.float64) - y.max(-1, keepdims=True)
    wanted = brute_force(x, far)
    for measure in ("kl", "reverse_kl"):
        found = sums.scores(LOGITS)[measure]
        assert abs(found - wanted[measure]) <= 1e-4 * wanted[measure] + 1e-9, measure


def test_the_same_output_has_no_distance() -> None:
    scores = Expected.of(rows(0), LOGITS).compare(rows(0)).scores(LOGITS)
    assert scores["kl"] == scores["mse"] == 0
    assert abs(scores["cosine"] - 1) < 1e-6 and scores["sqnr"] == 300


def test_probabilities_are_compared_as_they_are() -> None:
    x, y = rows(0), rows(0) + rows(1) / 40
    p, q = (np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in (x, y))
    found = Expected.of(p, PROBABILITIES).compare(q.copy()).scores(PROBABILITIES)
    assert abs(found["kl"] / brute_force(x, y)["kl"] - 1) < 1e-3
    assert abs(found["mse"] / np.square(p - q).mean() - 1) < 1e-4


NETWORK = """g (float[M, 16] x) => (float[M, 8] y) {
  a = MatMul(x, w0) b = Relu(a) c = Gemm<transB=1>(b, w1, bias) y = LAST(c)
}"""


def network(last: str) -> Source:
    weights = {"w0": random(16, 24), "w1": random(8, 24, seed=1), "bias": random(8)}
    proto = graph(NETWORK.replace("LAST", last), weights)
    return Source(ir.from_proto(proto), "network.onnx", last)


@pytest.mark.parametrize(("last", "metric"), [("Tanh", "mse"), ("Softmax", "kl")])
def test_the_measure_follows_the_output(last: str, metric: str) -> None:
    found = measure_feeds(network(last), ["int4:g8", "int2:g8"], {"x": random(4, 3, 16)})
    assert found.metric == metric and found.tokens == 4
    for types in found.scores.values():
        assert 0 < types["int4:g8"][metric] < types["int2:g8"][metric]
        assert ("kl" in types["int2:g8"]) == (metric == "kl")


def test_any_output_equals_the_whole_model() -> None:
    source, x = network("Tanh"), random(4, 3, 16)
    found = measure_feeds(source, ["int3:g8"], {"x": x}, method="rtn").scores
    for group in find_groups(source.model, find_blocks(source.model)):
        plain, changed = (
            Reference(source.model),
            Reference(with_weight(source.model, group, "int3:g8")),
        )
        errors = [changed.run({"x": s})["y"] - plain.run({"x": s})["y"] for s in x]
        assert abs(found[group.name]["int3:g8"]["mse"] - np.square(errors).mean()) < 1e-6


BRANCHES = """g (bool c, float[2, 16] x) => (float[2, 16] y) {
  a = MatMul(x, w0)
  b = If(c) <
    then_branch = t () => (float[2, 16] p) <float[16, 16] w1> { p = MatMul(a, w1) },
    else_branch = e () => (float[2, 16] q) { q = MatMul(a, w2) }
  >
  y = Tanh(b)
}"""


def test_weights_inside_of_branches_are_measured() -> None:
    proto = graph(BRANCHES, {"w0": random(16, 16), "w2": random(16, 16, seed=2)})
    branch = proto.graph.node[1].attribute[0].g
    del branch.input[:]
    branch.initializer.append(onnx.numpy_helper.from_array(random(16, 16, seed=1), "w1"))
    source = Source(ir.from_proto(proto), "branches.onnx", "b")
    samples = {"c": np.array([True, False]), "x": random(2, 2, 16)}
    scores = measure_feeds(source, ["int3:g8"], samples, "rtn").scores
    found = {name: types["int3:g8"]["mse"] for name, types in scores.items()}
    assert len(found) == 3 and all(found.values())


def test_convolutions_are_measured() -> None:
    text = """g (float[1, 3, 6, 6] x) => (float[1, 8, 6, 6] y) {
      a = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x, w) y = Tanh(a)
    }"""
    model = ir.from_proto(graph(text, {"w": random(8, 3, 3, 3)}))
    (group,) = find_groups(model, find_blocks(model))
    eight = group.rounded(DType.parse("int8:row"), "rtn")
    assert eight.shape == (8, 3, 3, 3) and np.abs(eight - random(8, 3, 3, 3)).max() < 0.02
    x = random(2, 1, 3, 6, 6)
    found = measure_feeds(Source(model, "conv.onnx", "c"), ["int4:row"], {"x": x})
    assert found.metric == VALUES.replace("values", "mse") and found.scores[group.name]


def test_what_is_not_finite_is_refused() -> None:
    bad = rows(0)
    bad[0, 0] = np.nan
    with pytest.raises(LadderError, match="the float model's output has NaN or infinity"):
        Expected.of(bad, LOGITS)
    with pytest.raises(LadderError, match="the output has NaN or infinity"):
        Expected.of(rows(0), LOGITS).compare(bad)
