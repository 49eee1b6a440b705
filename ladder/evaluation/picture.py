"""Pictures of points and lines as numbers; the templates in ``pages`` draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 44  # margins: axes and their titles
TICKS, LEAST_TICKS = 6, 2  # about so many labels on an axis, and so many at least
ROOM = 0.06  # of an axis, left free at both ends
DECADES = 2  # from so many powers of ten on, an axis is labelled by them alone


@dataclass(frozen=True)
class Point:
    """A value on both axes, with what is said of it; ``label`` is drawn next to it."""

    x: float
    y: float
    says: str = ""
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind, with a style of the page's sheet; ``line`` connects them."""

    name: str
    style: str
    points: Sequence[Point]
    line: bool = False

    @property
    def drawable(self) -> list[Point]:
        """The points that have finite coordinates."""
        return [p for p in self.points if math.isfinite(p.x) and math.isfinite(p.y)]


@dataclass(frozen=True)
class Tick:
    """A label on an axis, in pixels along it."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """From values to pixels: linear, or logarithmic where ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (self._on(v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[Tick]:
        values = _powers(self.low, self.high) if self.log else []
        if len(values) < LEAST_TICKS:
            values = _even(self.low, self.high)
        return [Tick(self.at(value), f"{value:.4g}") for value in values]


@dataclass(frozen=True)
class Picture:
    """What a template draws: series in pixels, ticks, titles, and the lines of a budget."""

    title: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[dict[str, Any]]
    budget: list[dict[str, Any]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def picture(
    title: str,
    titles: tuple[str, str],
    series: Iterable[Series],
    limits: tuple[float | None, float | None] = (None, None),
    labels: Sequence[str] = (),
) -> Picture | None:
    """The picture of some series; None where there is no point to draw.

    ``titles`` are those of both axes, ``limits`` the budget on them. ``labels`` are the names of
    0, 1, ... on the horizontal axis. The vertical axis is logarithmic if all values are above 0.
    """
    drawn = [(one, one.drawable) for one in series]
    points = [point for _, found in drawn for point in found]
    if not points:
        return None
    across = [p.x for p in points] + [v for v in limits[:1] if v is not None]
    up = [p.y for p in points] + [v for v in limits[1:] if v is not None]
    x = _axis(across, LEFT, WIDTH - RIGHT, log=False)
    y = _axis(up, HEIGHT - BOTTOM, TOP, log=min(up) > 0)
    return Picture(
        title,
        *titles,
        _named(x, labels) if labels else x.ticks(),
        y.ticks(),
        [_series(one, found, x, y) for one, found in drawn if found],
        _budget(limits, x, y),
    )


def _axis(values: Sequence[float], start: float, end: float, log: bool) -> Axis:
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** ROOM, 1.1)
        return Axis(low / factor, high * factor, start, end, log=True)
    room = (high - low) * ROOM or abs(high) * ROOM or 1.0
    return Axis(low - room, high + room, start, end)


def _even(low: float, high: float) -> list[float]:
    """Round values between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    unit: float = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between two, with 2 and 5 times them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > DECADES + 1 else (1, 2, 5)
    values = [f * 10.0**e for e in range(first, last + 1) for f in factors]
    return [value for value in values if low <= value <= high]


def _named(x: Axis, labels: Sequence[str]) -> list[Tick]:
    """Labels of the values 0, 1, ..., as many as there is room for."""
    step = -(-len(labels) // (4 * TICKS))
    return [Tick(x.at(i), label) for i, label in enumerate(labels) if i % step == 0]


def _series(one: Series, points: Sequence[Point], x: Axis, y: Axis) -> dict[str, Any]:
    rows = [
        {"x": x.at(p.x), "y": y.at(p.y), "says": p.says, "label": p.label, "end": _is_right(x, p)}
        for p in points
    ]
    path = "M" + "L".join(f"{row['x']},{row['y']}" for row in rows) if one.line else ""
    return {"name": one.name, "style": one.style, "points": rows, "path": path}


def _is_right(x: Axis, point: Point) -> bool:
    """Whether a label must end at its point, since there is no room after it."""
    return x.at(point.x) > WIDTH - RIGHT - 9 * len(point.label)


def _budget(limits: tuple[float | None, float | None], x: Axis, y: Axis) -> list[dict[str, Any]]:
    across, up = limits
    found = []
    if across is not None:
        found.append({"x": x.at(across), "text": f"limit: {across:.4g}"})
    if up is not None and (not y.log or up > 0):
        found.append({"y": y.at(up), "text": f"limit: {up:.4g}"})
    return found
