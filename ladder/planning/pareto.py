"""The Pareto front of loss against size and latency, as rows and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.passes.allocate_bits import LABELS
from ladder.passes.allocation.axes import AXES, LOSS, Axis, Column
from ladder.passes.allocation.front import Point, front
from ladder.passes.allocation.problem import Problem
from ladder.support.files import file_aside
from ladder.support.quality import WEAK, is_usable

PICTURES = (".png", ".svg")
LOSSES = {"kl": "predicted KL from the float model, nats per token", "mse": "predicted MSE"}
TEXT_POINTS = 8
MARGIN = 0.12  # room for the names of plans at the edges


def fronts(problem: Problem) -> dict[str, list[dict[str, Any]]]:
    """The rows of each axis that has a front, cheapest first; axes without times are left out."""
    drawn = [axis for axis in AXES if axis.front and (problem.timed or not axis.timed)]
    return {axis.key: [_row(problem, p) for p in front(problem, axis)] for axis in drawn}


def _row(problem: Problem, point: Point) -> dict[str, Any]:
    """Totals of a plan, and the share of the weights in each type."""
    shares: dict[str, float] = {}
    for part, pick in zip(problem.parts, point.picks, strict=True):
        type = part.options[pick].type
        shares[type] = shares.get(type, 0.0) + part.parameters / problem.parameters
    return {**problem.shown(point.totals), "shares": shares}


def table(
    rows: Sequence[Mapping[str, Any]], metric: str
) -> tuple[list[str], list[list[float | str]]]:
    """Columns and cells of a table for a terminal."""
    shown = [(axis, axis.column) for axis in AXES if axis.column and rows and axis.key in rows[0]]
    columns = [column.title or LABELS.get(metric, metric) for _, column in shown]
    cells: list[list[float | str]] = []
    for row in rows:
        mix = ", ".join(f"{share:.0%} {type}" for type, share in sorted(row["shares"].items()))
        cells.append([*(row[axis.key] * column.factor for axis, column in shown), mix])
    return [*columns, "types"], cells


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn, before any work."""
    if path.suffix.lower() not in PICTURES:
        raise LadderError(f"--picture {path}: give a file that ends in {' or '.join(PICTURES)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise LadderError("--picture needs matplotlib: pip install 'ladder[plot]'") from error


def draw(
    path: Path,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    uniform: Mapping[str, Mapping[str, float]],
    chosen: Mapping[str, float] | None,
    metric: str,
    title: str,
) -> None:
    """Draw a plot for each front, with the uniform plans and the chosen one, as PNG or SVG."""
    check_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(rows), 4.8), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    by_key = {axis.key: axis for axis in AXES}
    for plot, (key, points) in zip(axes, rows.items(), strict=True):
        _plot(plot, by_key[key], points, uniform, chosen)
        plot.set_ylabel(LOSSES.get(metric, metric))
    figure.suptitle(title)
    with file_aside(path) as aside, aside.open("wb") as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def _plot(
    plot: Any,
    axis: Axis,
    points: Sequence[Mapping[str, Any]],
    uniform: Mapping[str, Mapping[str, float]],
    chosen: Mapping[str, float] | None,
) -> None:
    factor, key = (axis.column or Column("")).factor, axis.key
    across, up = [factor * p[key] for p in points], [p[LOSS.key] for p in points]
    plot.plot(across, up, marker="o", markersize=3, label="mixed plans, each optimal")
    plain = [(factor * row[key], row[LOSS.key]) for row in uniform.values()]
    plot.plot(*zip(*plain, strict=True), "s", color="tab:orange", label="uniform plans")
    for type, at in zip(uniform, plain, strict=True):
        plot.annotate(type, at, (4, 4), textcoords="offset points", fontsize=TEXT_POINTS)
    if chosen is not None:
        plot.plot(
            [factor * chosen[key]],
            [chosen[LOSS.key]],
            "*",
            color="tab:red",
            markersize=12,
            label="this plan",
        )
    if min([*up, *(loss for _, loss in plain)]) > 0:
        plot.set_yscale("log")
    plot.set_xlabel(axis.front)
    plot.margins(x=MARGIN)
    plot.grid(True, which="both", alpha=0.3)
    plot.legend()


def draw_measured(path: Path, points: Mapping[str, tuple[float, float]], title: str) -> None:
    """Draw measured models, name -> (MB, KL), and the KL up to which a model may be used."""
    check_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    plot = figure.subplots()
    for name, (size, loss) in points.items():
        plot.plot([size], [loss], "o" if is_usable(loss) else "x", markersize=8)
        plot.annotate(name, (size, loss), (6, 4), textcoords="offset points", fontsize=TEXT_POINTS)
    plot.axhline(WEAK, color="tab:red", linestyle="--", label="not usable above")
    plot.set_yscale("log")
    plot.set_xlabel("the artifact's folder, MB")
    plot.set_ylabel("measured KL from the float model, nats per token")
    plot.margins(x=2 * MARGIN)
    plot.grid(True, which="both", alpha=0.3)
    plot.legend()
    figure.suptitle(title)
    with file_aside(path) as aside, aside.open("wb") as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
