"""Experts that are named one by one leave their stack."""

from __future__ import annotations

import numpy as np
import pytest
from expert_graph import CHOSEN, EXPERTS, WEIGHT, K, N, model

from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.gather_experts import GatherExperts
from ladder.passes.infra.patterns import Rule
from ladder.passes.infra.runner import run_passes
from ladder.passes.split_experts import SplitExperts
from ladder.reference import Reference

ONE, THREE = (WEIGHT.replace("experts.", f"experts.{e}.") for e in (1, 3))
EVERY = WEIGHT.replace("experts.", "experts.*.")
FEEDS = {
    "x": np.random.default_rng(0).standard_normal((3, K)).astype(np.float32),
    "chosen": np.array([[0, 4], [3, 3], [1, 2]]),
}


@pytest.mark.parametrize(
    ("patterns", "sites"),
    [
        ((ONE, THREE), {WEIGHT: EXPERTS - 2, ONE: 1, THREE: 1}),
        ((EVERY,), {WEIGHT.replace("experts.", f"experts.{e}."): 1 for e in range(EXPERTS)}),
        (("*gate_up_proj", "other.3"), {WEIGHT: EXPERTS}),
    ],
    ids=["two", "all", "none"],
)
def test_what_is_computed_stays(patterns: tuple[str, ...], sites: dict[str, int]) -> None:
    before = run_passes(model(), [GatherExperts()])
    wanted = Reference(facts.clone(before)).run(FEEDS)["y"]
    after = run_passes(before, [SplitExperts(patterns)])
    found, refusals = find_sites(after)
    assert {site.name: site.n // N for site in found} == sites
    assert {(site.role, site.experts) for site in found} == {("moe.gate_up", (CHOSEN, EXPERTS))}
    assert refusals == []
    assert np.abs(Reference(after).run(FEEDS)["y"] - wanted).max() < 1e-5


def test_a_rule_names_one_expert() -> None:
    passes = [GatherExperts(), SplitExperts((THREE,))]
    rules = (Rule.parse("moe.*=int4:g16"), Rule.parse(f"{THREE}=int8:row"))
    after = run_passes(model(), [*passes, AllocateUniform(DType.parse("int2:g16"), rules=rules)])
    plan = facts.need(after, facts.BitPlan).choices
    assert {n: str(c.type) for n, c in plan.items()} == {WEIGHT: "int4:g16", THREE: "int8:row"}
