"""A picture of units of hardware by density and energy, and the front of the best ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladder.planning.pareto import MARGIN, TEXT_POINTS, check_picture
from ladder.support.files import file_aside

DENSITY, ENERGY = "gops_per_mm2", "pj_per_operation"


def unit_front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The units than which no other is both denser and more frugal, the densest first."""
    front: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda r: (-r[DENSITY], r[ENERGY])):
        if not front or row[ENERGY] < front[-1][ENERGY]:
            front.append(row)
    return front


def draw_units(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw all units as points, and the front as a line, as PNG or SVG."""
    check_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    plot = figure.subplots()
    front = unit_front(rows)
    plot.plot([r[DENSITY] for r in rows], [r[ENERGY] for r in rows], "o", markersize=4)
    plot.plot([r[DENSITY] for r in front], [r[ENERGY] for r in front], label="best units")
    for row in front:
        at = (row[DENSITY], row[ENERGY])
        plot.annotate(row["unit"], at, (4, 4), textcoords="offset points", fontsize=TEXT_POINTS)
    plot.set_xlabel("10^9 operations a second for each mm2")
    plot.set_ylabel("pJ for each operation")
    plot.margins(x=MARGIN)
    plot.grid(True, alpha=0.3)
    plot.legend()
    with file_aside(path) as aside, aside.open("wb") as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
