"""Weights of experts become tables of rows, of which the chosen ones are read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from expert_graph import CHOSEN, EXPERTS, TEXT, WEIGHT, K, N, model
from small_graphs import graph, random

from ladder.ir.site import find_sites
from ladder.passes.gather_experts import GatherExperts
from ladder.passes.infra.runner import run_passes
from ladder.reference import Reference


def test_the_chosen_rows_are_read() -> None:
    feeds = {
        "x": random(3, K),
        "chosen": np.array([[0, 4], [3, 3], [1, 0]]),
    }
    before, after = model(), model()
    run_passes(after, [GatherExperts()])
    wanted, found = (Reference(m).run(feeds)["y"] for m in (before, after))
    assert np.array_equal(wanted, found)
    ((site,), refusals) = find_sites(after)
    assert (site.name, site.role, site.n, site.k) == (WEIGHT, "moe.gate_up", EXPERTS * N, K)
    assert site.experts == (CHOSEN, EXPERTS)
    assert refusals == []
    assert WEIGHT not in after.graph.initializers
    assert {node.op_type for node in after.graph}.isdisjoint({"GatherND", "Transpose"})


def test_a_stack_of_columns_is_turned() -> None:
    """Stored as [E, K, N], with rows that are multiplied by it."""
    text = TEXT.replace("column = Unsqueeze(rows, last)", "column = Unsqueeze(rows, one)")
    text = text.replace("MatMul(weight, column)", "MatMul(column, weight)")
    text = text.replace("Squeeze(product, last)", "Squeeze(product, one)")
    stack = {WEIGHT: random(EXPERTS, K, N)}
    before, after = (ir.from_proto(graph(text, stack)) for _ in range(2))
    run_passes(after, [GatherExperts()])
    feeds = {"x": random(3, K), "chosen": np.array([[0, 4], [3, 3], [1, 0]])}
    wanted, found = (Reference(m).run(feeds)["y"] for m in (before, after))
    assert np.abs(wanted - found).max() < 1e-5
    ((site,), refusals) = find_sites(after)
    assert (site.name, site.n, site.k, site.experts) == (WEIGHT, EXPERTS * N, K, (CHOSEN, EXPERTS))
    assert refusals == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch_dims = 0", "batch_dims = 1"),
        ('perm = [0, 1, 2]> ("', 'perm = [0, 2, 1]> ("'),
    ],
    ids=["batches", "transposed"],
)
def test_other_selections_stay(old: str, new: str) -> None:
    after = model(TEXT.replace(old, new))
    before = [node.op_type for node in after.graph]
    GatherExperts().run(after)
    assert [node.op_type for node in after.graph] == before
