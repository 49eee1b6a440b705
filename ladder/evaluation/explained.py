"""A plan as a report has it: what each type would cost each site, and its totals as tables.

A plan file may have been edited, so whatever is not as planning writes it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ladder.evaluation.tables import Table
from ladder.support.documents import is_number

Costs = Mapping[str, Mapping[str, float]]  # type -> loss, bytes, seconds
AXES = ("loss", "bytes", "seconds")


def planned(report: Mapping[str, Any]) -> dict[str, Costs]:
    """Site -> type -> costs. Of sites that share a weight, the first has them."""
    plan = report.get("plan") or {}
    return {site: _costs(row) for site, row in _table(plan, "candidates").items()}


def _costs(row: Any) -> Costs:
    known = row.items() if isinstance(row, Mapping) else ()
    return {
        type: {axis: costs[axis] for axis in AXES if is_number(costs.get(axis))}
        for type, costs in known
        if isinstance(costs, Mapping) and is_number(costs.get("loss"))
    }


def metric_of(report: Mapping[str, Any]) -> str:
    """The name of the plan's loss, as titles have it."""
    plan = report.get("plan") or {}
    return str(_table(plan, "predicted").get("metric", "loss")).upper()


def plan_tables(plan: Mapping[str, Any] | None) -> list[Table]:
    """What was asked for and measured, and the uniform plans on the same axes."""
    if not plan:
        return []
    asked, predicted = _table(plan, "asked"), _table(plan, "predicted")
    metric = str(predicted.get("metric", "loss"))
    facts = {"budget": asked.get("budget"), "least": asked.get("minimised")}
    facts |= {key: asked[key] for key in ("types", "rules", "keep", "text") if asked.get(key)}
    facts |= {f"measured {key}": value for key, value in _table(plan, "measured").items()}
    columns = [c for c in ("loss", "bytes", "bpw", "seconds", "prefill") if c in predicted]
    rows = {**_table(plan, "uniform"), "this plan": predicted}
    heads = ["predicted", *(metric if c == "loss" else c for c in columns)]
    notes = [("note", note) for note in asked.get("notes", [])]
    return [
        Table("Plan", ["", ""], [*facts.items(), *notes]),
        Table("Plans", heads, [(name, *map(row.get, columns)) for name, row in rows.items()]),
    ]


def _table(plan: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = plan.get(name)
    return found if isinstance(found, Mapping) else {}


def front(plan: Mapping[str, Any], axis: str) -> list[tuple[float, float]]:
    """The best plans along an axis: (value, loss) of each."""
    rows = _table(plan, "front").get(axis)
    pairs = [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
    return [(row[0], row[1]) for row in pairs if len(row) == 2 and all(map(is_number, row))]
