"""The sensitivity of each layer: what each type would cost it, and what the plan costs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ladder.evaluation.explained import Costs
from ladder.evaluation.layers import layers_of
from ladder.evaluation.picture import Picture, Point, Series, picture


def sensitivity_picture(
    sites: Sequence[Mapping[str, Any]], candidates: Mapping[str, Costs]
) -> Picture | None:
    """Sums of the losses of single sites by layer; None where none was measured."""
    found = layers_of(sites)
    types = list(dict.fromkeys(type for costs in candidates.values() for type in costs))
    sums: dict[str, dict[int, float]] = {}
    for layer in range(len(found.labels)):
        for row in found.sites(layer):
            costs = candidates.get(row["name"], {})
            chosen = {"this plan": costs.get(row["type"])}
            for name, cost in {**costs, **chosen}.items():
                if cost is not None:
                    of = sums.setdefault(name, {})
                    of[layer] = of.get(layer, 0.0) + cost["loss"]
    series = [
        Series(
            name,
            f"type{number}" if name in types else "predicted",
            _points(name, sums[name], found.labels),
            line=True,
        )
        for number, name in enumerate(sums)
    ]
    titles = ("layer", "sum of the losses of its sites alone")
    return picture("Sensitivity by layer", titles, series, labels=found.labels)


def _points(name: str, sums: Mapping[int, float], labels: Sequence[str]) -> list[Point]:
    return [Point(at, y, f"layer {labels[at]}, {name}: {y:.3g}") for at, y in sums.items()]
