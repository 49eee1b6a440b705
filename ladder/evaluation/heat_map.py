"""The heat map of a report: layers by roles, coloured by bits per weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ladder.evaluation.explained import Costs, metric_of
from ladder.evaluation.layers import layers_of

LABELS, WIDTH = 110, 640  # pixels of the names of roles, and of the whole picture
TALLEST, WIDEST, TOP = 26, 40, 4  # pixels of a cell at most, and above the first
FOOT = 24  # pixels of the names of layers
SHADES = (2.0, 2.75, 3.5, 4.25, 5.0, 6.5, 9.0, 16.5)  # a shade ends before so many bits
SPACING = 28  # pixels between the names of two layers


@dataclass(frozen=True)
class HeatMap:
    """Rectangles in pixels; ``shade`` is a class of the page's sheet, ``says`` all about a site."""

    cells: list[dict[str, Any]]
    roles: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    legend: list[dict[str, Any]]
    height: float
    width: int = WIDTH


def heat_map(report: Mapping[str, Any], candidates: Mapping[str, Costs]) -> HeatMap:
    """The map of a report's sites; several sites of one role in a layer share a cell."""
    sites, metric = report["sites"], metric_of(report)
    found = layers_of(sites)
    wide = min((WIDTH - LABELS) / max(len(found.labels), 1), WIDEST)
    cells = []
    for (layer, role), rows in found.cells.items():
        tall = TALLEST / len(rows)
        for i, row in enumerate(rows):
            place = {"x": LABELS + layer * wide, "width": wide, "height": tall}
            place["y"] = TOP + found.roles.index(role) * TALLEST + i * tall
            says = describe(row, candidates.get(row["name"], {}), metric)
            cells.append({**place, "shade": shade(row), "says": says, "name": row["name"]})
    bottom = TOP + len(found.roles) * TALLEST
    roles = [{"y": TOP + (i + 0.65) * TALLEST, "text": role} for i, role in enumerate(found.roles)]
    step = max(1, round(SPACING / wide))
    layers = [
        {"x": LABELS + (i + 0.5) * wide, "y": bottom + 14, "text": label}
        for i, label in enumerate(found.labels)
        if i % step == 0
    ]
    return HeatMap(cells, roles, layers, _legend(sites), bottom + FOOT)


def shade(row: Mapping[str, Any]) -> int:
    """The number of the colour of a site, from few bits to float."""
    bits = row.get("bits")  # artifacts of earlier versions have none
    known = bits if isinstance(bits, int | float) else SHADES[-1]
    return next((i for i, limit in enumerate(SHADES) if known < limit), len(SHADES))


def _legend(sites: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The types that there are, with their colours and how many weights have them."""
    counted: dict[tuple[float, str], int] = {}
    shades: dict[str, int] = {}
    for row in sites:
        key = (float(row.get("bits") or SHADES[-1]), row["type"])
        counted[key] = counted.get(key, 0) + 1
        shades[row["type"]] = shade(row)
    types: dict[str, int] = {}
    for (_, type), count in sorted(counted.items()):
        types[type] = types.get(type, 0) + count
    return [{"text": f"{t} ({n})", "shade": shades[t]} for t, n in types.items()]


def describe(row: Mapping[str, Any], costs: Costs, metric: str) -> str:
    """All about a site: its type and why, and what each candidate costs."""
    lines = [f"{row['name']} [{row['n']} x {row['k']}]: {row['type']}"]
    if row.get("reason"):
        lines.append(str(row["reason"]))
    lines += [candidate(type, cost, metric) for type, cost in costs.items()]
    return "\n".join(lines)


def candidate(type: str, cost: Mapping[str, float], metric: str) -> str:
    """What one type costs a site."""
    parts = [f"{metric} {cost['loss']:.3g}"]
    if "bytes" in cost:
        parts.append(f"{cost['bytes'] / 1e3:.4g} kB")
    if "seconds" in cost:
        parts.append(f"{1e3 * cost['seconds']:.3g} ms")
    return f"{type}: {', '.join(parts)}"
