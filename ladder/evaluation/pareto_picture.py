"""The Pareto pictures of a report: predicted and measured plans, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ladder.evaluation.explained import front, metric_of
from ladder.evaluation.measured import EVAL, Results
from ladder.evaluation.picture import Picture, Point, Series, picture
from ladder.evaluation.verdict import limits_of
from ladder.passes.allocation.axes import AXES, Axis
from ladder.support.documents import is_number

THIS = "this plan"


def pareto_pictures(report: Mapping[str, Any], found: Results) -> list[Picture]:
    """A picture for each axis that the plan has a front of; none without a plan."""
    plan = report.get("plan")
    if not plan:
        return []
    drawn = [axis for axis in AXES if axis.front]
    made = [_picture(axis, report, plan, found) for axis in drawn if axis.key in plan["predicted"]]
    return [one for one in made if one is not None]


def _picture(
    axis: Axis, report: Mapping[str, Any], plan: Mapping[str, Any], found: Results
) -> Picture | None:
    assert axis.column is not None  # as every axis with a front has
    factor, metric, limits = axis.column.factor, metric_of(report), limits_of(report)
    along, loss = limits.get(axis.key), limits.get("loss")
    predicted = {**plan["uniform"], THIS: plan["predicted"]}
    at = {name: row.get(axis.key) for name, row in predicted.items()}

    def points(losses: Mapping[str, Any], labels: bool = False) -> list[Point]:
        known = {n: y for n, y in losses.items() if is_number(y) and is_number(at.get(n))}
        return [
            Point(factor * at[name], y, f"{name}: {metric} {y:.3g}", name if labels else "")
            for name, y in known.items()
        ]

    losses = {name: row.get("loss") for name, row in predicted.items()}
    series = [
        Series(
            "best mixed plans, predicted",
            "front",
            [Point(factor * x, y, f"{metric} {y:.3g}") for x, y in front(plan, axis.key)],
            line=True,
        ),
        Series(
            "one type everywhere, predicted",
            "uniform",
            points({name: y for name, y in losses.items() if name != THIS}, labels=True),
        ),
        Series("this plan, predicted", "predicted", points({THIS: losses[THIS]})),
        Series("measured on the calibration data", "measured", points(_measured(plan, metric))),
    ]
    scored = found.get(EVAL, {})
    if metric == "KL" and scored.get("kl_mean") is not None:
        name = f"this plan, measured on {scored['text']}"
        series.append(Series(name, "scored", points({THIS: scored["kl_mean"]})))
    unit = f"{metric} from the float model, nats per token" if metric == "KL" else metric
    bounds = (None if along is None else factor * along, loss)
    return picture(f"Loss and {axis.label}", (axis.front, unit), series, bounds)


def _measured(plan: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """What was run whole: this plan, and the best uniform plan that fits."""
    measured, key = plan["measured"], metric.lower()
    return {THIS: measured.get(key), str(measured.get("uniform")): measured.get(f"uniform_{key}")}
