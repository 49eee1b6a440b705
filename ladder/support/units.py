"""Units of limits: how ``180MB`` and ``20ms`` are read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ladder.errors import LadderError

SIZES = {
    **{"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    **{"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30},
}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
AGES = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
# A number and its unit. Nothing is tried twice (``++``): a text of any length is read in one go.
MEASURE = re.compile(
    r"\s*+((?:[0-9]++(?:\.[0-9]++)?+|\.[0-9]++)(?:e[+-]?[0-9]++)?+)\s*+([a-z]+)\s*"
)
ROUNDING = 1e-12  # relative error of float sums: a limit that is exceeded by no more is met


@dataclass(frozen=True)
class Unit:
    """How values of a kind are read (option, text) and written.

    ``show`` writes the value of an option; ``least`` rounds up, so that its text is a limit that
    can be met.
    """

    parse: Callable[[str, str], float]
    show: Callable[[float], str]
    least: Callable[[float], str]


def parse_size(option: str, text: str) -> float:
    """``180MB`` or ``96MiB`` -> bytes."""
    return _with_unit(option, text, SIZES, "180MB or 96MiB")


def parse_time(option: str, text: str) -> float:
    """``20ms`` -> seconds."""
    return _with_unit(option, text, TIMES, "20ms or 0.5s")


def parse_age(option: str, text: str) -> float:
    """``30d`` -> seconds."""
    return _with_unit(option, text, AGES, "30d or 12h")


def parse_number(option: str, text: str, example: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise LadderError(f"{option} '{text}': write a positive number, for example {example}")
    return value


def show_size(size: float, up: bool = False) -> str:
    """Bytes as a text that ``parse_size`` reads; ``up`` rounds so that it is never too small."""
    unit, name = next(((u, n) for n, u in _units() if size >= u), (1.0, "B"))
    return f"{_rounded(size / unit, up)}{name}"


def show_time(seconds: float, up: bool = False) -> str:
    """Seconds as a text that ``parse_time`` reads; ``up`` as for ``show_size``."""
    unit, name = next(((u, n) for n, u in TIMES.items() if seconds >= u), (1e-6, "us"))
    return f"{_rounded(seconds / unit, up)}{name}"


def show_number(value: float, up: bool = False) -> str:
    """A plain number in four digits; ``up`` as for ``show_size``."""
    return _rounded(value, up)


def number(example: str) -> Unit:
    """Plain numbers; ``example`` is shown in the message about a wrong one."""
    return Unit(
        lambda option, text: parse_number(option, text, example),
        lambda value: f"{value:g}",
        lambda value: show_number(value, up=True),
    )


BYTES = Unit(parse_size, show_size, lambda size: show_size(size, up=True))
SECONDS = Unit(parse_time, show_time, lambda seconds: show_time(seconds, up=True))


def _units() -> list[tuple[str, float]]:
    return [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)]


def _rounded(value: float, up: bool, digits: int = 4) -> str:
    text = f"{value:.{digits}g}"
    if up and float(text) < value * (1 - ROUNDING):
        text = f"{value + 10.0 ** (math.floor(math.log10(value)) - digits + 1):.{digits}g}"
    return f"{float(text):.12g}"


def _with_unit(option: str, text: str, units: dict[str, float], example: str) -> float:
    match = MEASURE.fullmatch(text.lower())
    unit = units.get(match[2]) if match else None
    if match is None or unit is None or float(match[1]) <= 0:
        raise LadderError(f"{option} '{text}': write a positive number with a unit: {example}")
    return float(match[1]) * unit
