"""An axis is a row and its option: limits, preferences, goals, tables and fronts follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.facts import Allocation, BitPlan, Sensitivity
from ladder.ir.site import find_sites
from ladder.options.requests import PlanOptions
from ladder.passes.allocate_bits import AllocateBits, problem_of, put_allocation
from ladder.passes.allocation import axes
from ladder.passes.allocation.axes import AXES, Axis, AxisOptions, Column
from ladder.passes.allocation.budget import BUDGET, Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.parts import Use
from ladder.planning.pareto import fronts, table
from ladder.support.units import BYTES

TYPES = ("int2:g32", "int4:row", "int8:row")
K, N = 64, 96


def read_bytes(use: Use) -> float:
    """Bytes of activations that products read: two for each of K where weights are in rows."""
    return sum(site.k * (2 if use.type.endswith(":row") else 1) for site in use.sites)


@pytest.fixture
def axis() -> Iterator[Axis]:
    """The one row that a new axis takes."""
    row = Axis(
        name="traffic",
        key="activation_bytes",
        counted="activation_bytes",
        cost=read_bytes,
        unit=BYTES,
        label="activation bytes",
        after=" of activations",
        option="activation_bytes",
        preference="traffic",
        goal=True,
        column=Column("activations, kB", 1e-3),
        front="activations, kB",
    )
    AXES.append(row)
    yield row
    AXES.remove(row)


@pytest.fixture
def model() -> ir.Model:
    text = f"""g (float[8, {K}] x) => (float[8, {K}] y) {{
        a = MatMul (x, up)  r = Relu (a)  y = MatMul (r, down)
    }}"""
    made: ir.Model = ir.from_proto(graph(text, {"up": random(K, N), "down": random(N, K)}))
    losses = {type: {"kl": 0.1**i} for i, type in enumerate(TYPES)}
    facts.put(made, Sensitivity("kl", {site.name: losses for site in find_sites(made)[0]}))
    return made


def planned(model: ir.Model, **texts: str) -> tuple[list[str], Allocation]:
    budget, (problem, notes) = Budget.of(texts), problem_of(model)
    put_allocation(model, problem, allocate(problem, budget), str(budget), notes)
    plan, found = facts.get(model, BitPlan), facts.get(model, Allocation)
    assert plan is not None and found is not None
    return [str(choice.type) for choice in plan.choices.values()], found


def test_it_limits_a_plan(axis: Axis, model: ir.Model) -> None:
    types, found = planned(model, bpw="9")
    assert types == ["int8:row", "int8:row"]
    assert found.predicted["activation_bytes"] == 2 * (K + N)
    types, found = planned(model, bpw="9", activation_bytes=f"{2 * K + N}B")
    assert types == ["int8:row", "int2:g32"]
    assert found.predicted["activation_bytes"] == 2 * K + N
    assert found.least["activation_bytes"] == K + N
    assert found.asked == f"bpw 9, activation-bytes {2 * K + N}B"
    least = "--activation-bytes 9B cannot be met: the least reachable is 160B of activations with"
    with pytest.raises(LadderError, match=least):
        planned(model, activation_bytes="9B")
    with pytest.raises(LadderError, match="--activation-bytes '9': write a positive number with a"):
        planned(model, activation_bytes="9")


def test_it_is_preferred_and_minimised(axis: Axis, model: ir.Model) -> None:
    types, found = planned(model, prefer="traffic=1")
    assert set(types) == {"int2:g32"} and found.asked == "prefer traffic=1"
    types, found = planned(model, max_kl="1.2", minimise="traffic")
    assert sorted(types) == ["int2:g32", "int8:row"] and found.minimised == "activation bytes"


def test_it_has_a_front_and_a_column(axis: Axis, model: ir.Model) -> None:
    rows = fronts(problem_of(model)[0])["activation_bytes"]
    assert [row["activation_bytes"] for row in rows] == [K + N, 2 * K + N, 2 * (K + N)]
    columns, cells = table(rows, "kl")
    assert columns == ["KL", "MB", "bpw", "activations, kB", "types"]
    assert [row[3] for row in cells] == [0.16, 0.224, 0.32]


def test_every_axis_that_is_limited_has_its_option() -> None:
    named = {axis.option for axis in axes.limited()}
    assert named == {field.name for field in dataclasses.fields(AxisOptions)}
    for options in (AllocateBits, PlanOptions):
        assert set(BUDGET) <= {field.name for field in dataclasses.fields(options)}


def test_axes_do_not_share_names() -> None:
    for names in ([axis.key for axis in AXES], [axis.name for axis in AXES]):
        assert len(set(names)) == len(names)
    costs = {(axis.counted, axis.cost) for axis in AXES}  # what is summed has one cost
    assert len({what for what, _ in costs}) == len(costs)
