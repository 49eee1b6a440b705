"""The Pareto pictures of a report: predicted and measured plans, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    drawn = [axis for axis in AXES if axis.front and axis.key in plan["predicted"]]
    made = [_Plans(axis, report, found).picture() for axis in drawn]
    return [one for one in made if one is not None]


@dataclass(frozen=True)
class _Plans:
    """The plans of a report along one axis."""

    axis: Axis
    report: Mapping[str, Any]
    found: Results

    @property
    def plan(self) -> Mapping[str, Any]:
        plan: Mapping[str, Any] = self.report["plan"]
        return plan

    @property
    def metric(self) -> str:
        return metric_of(self.report)

    @property
    def factor(self) -> float:
        """From the values of the axis to those that are shown."""
        return self.axis.column.factor if self.axis.column else 1.0

    def picture(self) -> Picture | None:
        """All series, and the limits of the budget as lines."""
        limits = limits_of(self.report, "bounds")
        along = limits.get(self.axis.key)
        bounds = (None if along is None else self.factor * along, limits.get("loss"))
        unit = f"{self.metric} from the float model, nats per token"
        titles = (self.axis.front, unit if self.metric == "KL" else self.metric)
        series = [*self._predicted(), *self._measured()]
        return picture(f"Loss and {self.axis.label}", titles, series, bounds)

    def _predicted(self) -> list[Series]:
        best = [
            Point(self.factor * x, y, f"{self.metric} {y:.3g}")
            for x, y in front(self.plan, self.axis.key)
        ]
        uniform = {name: row.get("loss") for name, row in self.plan["uniform"].items()}
        this = {THIS: self.plan["predicted"].get("loss")}
        return [
            Series("best mixed plans, predicted", "front", best, line=True),
            Series("one type everywhere, predicted", "uniform", self._points(uniform, True)),
            Series("this plan, predicted", "predicted", self._points(this)),
        ]

    def _measured(self) -> list[Series]:
        """What was run whole: this plan, and the best uniform plan that fits."""
        measured, key = self.plan["measured"], self.metric.lower()
        uniform = str(measured.get("uniform"))
        losses = {THIS: measured.get(key), uniform: measured.get(f"uniform_{key}")}
        series = [Series("measured on the calibration data", "measured", self._points(losses))]
        scored = self.found.get(EVAL)
        if scored is not None and self.metric == "KL":
            name = f"this plan, measured on {scored['text']}"
            series.append(Series(name, "scored", self._points({THIS: scored.get("kl_mean")})))
        return series

    def _points(self, losses: Mapping[str, Any], labels: bool = False) -> list[Point]:
        """Plans by name where they are on the axis, at some losses."""
        rows = {**self.plan["uniform"], THIS: self.plan["predicted"]}
        at = {name: row.get(self.axis.key) for name, row in rows.items()}
        return [
            Point(
                self.factor * at[name], y, f"{name}: {self.metric} {y:.3g}", name if labels else ""
            )
            for name, y in losses.items()
            if is_number(y) and is_number(at.get(name))
        ]
