"""What pictures are made of: axes, limits, layers, cells of the heat map, bars."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ladder.evaluation.explained import planned
from ladder.evaluation.heat_map import heat_map
from ladder.evaluation.layers import layer_name, layers_of
from ladder.evaluation.pages.render import render
from ladder.evaluation.pareto_picture import pareto_pictures
from ladder.evaluation.picture import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Point, Series, picture
from ladder.evaluation.sensitivity_picture import sensitivity_picture
from ladder.evaluation.tables import table
from ladder.evaluation.token_time import token_time

TITLES = ("MB", "KL")


def site(name: str, role: str, type: str = "int4:g32", bits: float = 5.0) -> dict[str, Any]:
    return {"name": name, "role": role, "n": 8, "k": 16, "type": type, "bits": bits, "reason": "r"}


def test_points_keep_their_order_on_both_axes() -> None:
    points = [Point(1, 0.5), Point(2, 0.05), Point(4, 0.005), Point(3, math.nan)]
    drawn = picture("t", TITLES, [Series("s", "front", points, line=True)], (3.5, 0.02))
    assert drawn is not None
    (series,) = drawn.series
    rows = series["points"]
    assert len(rows) == 3 and series["path"].startswith(f"M{rows[0]['x']},{rows[0]['y']}L")
    assert LEFT < rows[0]["x"] < rows[1]["x"] < rows[2]["x"] < WIDTH
    assert HEIGHT - BOTTOM > rows[2]["y"] > rows[1]["y"] > rows[0]["y"] > TOP
    # The vertical axis is logarithmic: equal factors are equal lengths.
    assert rows[1]["y"] - rows[0]["y"] == pytest.approx(rows[2]["y"] - rows[1]["y"], abs=0.02)
    across, up = drawn.budget
    assert rows[1]["x"] < across["x"] < rows[2]["x"] and rows[1]["y"] < up["y"] < rows[2]["y"]
    assert {"0.1", "0.01"} <= {tick.text for tick in drawn.y_ticks}


@pytest.mark.parametrize("values", [[0.0], [3.0], [-1.0, 2.0], [0.0, 0.0], [1e-9, 1e9], [1, 1e7]])
def test_any_values_have_an_axis(values: list[float]) -> None:
    points = [Point(value, value) for value in values]
    drawn = picture("t", TITLES, [Series("s", "front", points)])
    assert drawn is not None and drawn.x_ticks and drawn.y_ticks
    assert len(drawn.x_ticks) <= 12 and all(LEFT <= tick.at <= WIDTH for tick in drawn.x_ticks)
    assert picture("t", TITLES, [Series("s", "front", [Point(math.inf, 1)])]) is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.12.mlp.up_proj", ("model.layers.12", "12")),
        ("/encoder/layer.3/attention/MatMul", ("/encoder/layer.3", "3")),
        ("layer1.0.conv1", ("layer1.0", "0")),
        ("0.weight", ("0", "0")),
        ("MatMul_12", ("", "")),
        ("lm_head", ("", "")),
        ("fc1", ("", "")),
    ],
)
def test_layers_by_name(name: str, layer: tuple[str, str]) -> None:
    assert layer_name(name) == layer


def test_layers_and_sites_outside_of_them() -> None:
    names = ["embed", "layers.0.up", "layers.0.down", "layers.1.up", "head", "tail"]
    roles = ["embed", "mlp", "mlp", "mlp", "matmul", "matmul"]
    rows = [site(name, role) for name, role in zip(names, roles, strict=True)]
    found = layers_of(rows)
    assert found.labels == ["·", "0", "1", "·"] and found.roles == ["embed", "mlp", "matmul"]
    assert [row["name"] for row in found.sites(0)] == ["embed", "head"]
    assert [row["name"] for row in found.cells[1, "mlp"]] == names[1:3]
    assert layers_of([site("a.0.x", "x"), site("b.0.x", "x")]).labels == ["a.0", "b.0"]


def test_cells_share_a_place_and_do_not_overlap() -> None:
    rows = [site("l.0.a", "mlp"), site("l.0.b", "mlp", "int8:row", 8.1), site("l.1.a", "attn")]
    costs = {"l.0.a": {"int4:g32": {"loss": 0.5, "bytes": 2000, "seconds": 0.001}}}
    drawn = heat_map({"sites": rows}, costs)
    first, second, third = drawn.cells
    assert first["x"] == second["x"] and first["y"] + first["height"] == second["y"]
    assert third["x"] == first["x"] + first["width"] and third["y"] > second["y"]
    assert first["says"] == "l.0.a [8 x 16]: int4:g32\nr\nint4:g32: LOSS 0.5, 2 kB, 1 ms"
    assert [row["text"] for row in drawn.legend] == ["int4:g32 (2)", "int8:row (1)"]
    assert first["shade"] < second["shade"]


def test_sensitivity_adds_up_the_sites_of_a_layer() -> None:
    rows = [site("l.0.a", "mlp"), site("l.0.b", "mlp", "int8:row"), site("l.1.a", "mlp")]
    costs = {
        name: {"int4:g32": {"loss": 0.25}, "int8:row": {"loss": 0.125}}
        for name in ("l.0.a", "l.0.b", "l.1.a")
    }
    drawn = sensitivity_picture(rows, costs)
    assert drawn is not None
    said = {s["name"]: [p["says"] for p in s["points"]] for s in drawn.series}
    assert said["int4:g32"] == ["layer 0, int4:g32: 0.5", "layer 1, int4:g32: 0.25"]
    assert said["this plan"] == ["layer 0, this plan: 0.375", "layer 1, this plan: 0.25"]
    assert sensitivity_picture(rows, {}) is None


def test_kernels_after_the_tenth_are_one_bar() -> None:
    bars = token_time({"breakdown": {f"k{i}": 0.001 * i for i in range(1, 13)}})
    assert [bar.name for bar in bars][:2] == ["k12", "k11"] and len(bars) == 11
    assert bars[-1].name == "2 other kernels" and bars[-1].milliseconds == pytest.approx(3)
    assert sum(bar.percent for bar in bars) == pytest.approx(100)
    assert token_time(None) == [] == token_time({"breakdown": {"k": 0.0}})


EDITED: list[dict[str, Any]] = [
    {"candidates": 3, "front": "x", "asked": {"limits": [1], "bounds": "y"}},
    {"candidates": {"l.0.a": {"int4": 3, "int8": {"loss": "low"}}}, "front": {"bytes": [[1], "a"]}},
]


@pytest.mark.parametrize("changed", EDITED, ids=["other kinds", "other values"])
def test_an_edited_plan_is_shown_as_far_as_it_is_one(changed: dict[str, Any]) -> None:
    plan = {"asked": {}, "predicted": {"bytes": 1.0, "loss": "?"}, "measured": {}, "uniform": {}}
    report = {"sites": [site("l.0.a", "mlp")], "plan": {**plan, **changed}}
    assert pareto_pictures(report, {}) == []
    assert not any(planned(report).values())
    assert heat_map(report, planned(report)).cells


def test_texts_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    shown = [table("T", ["a"], [{"a": bad}])]
    drawn = picture(bad, TITLES, [Series(bad, "front", [Point(1, 1, bad, bad)])])
    page = render("compare.html", title=bad, table=shown[0], picture=drawn, notes=[(bad, bad)])
    assert "<script>alert" not in page and page.count("&lt;script&gt;") >= 6
    assert "<script>alert" not in render("alone.svg", picture=drawn)
