"""What a plan may cost: budgets and preferences, read from texts such as ``180MB`` and ``20ms``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ladder.errors import LadderError

SIZES = {
    **{"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    **{"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30},
}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PREFERENCES = {"memory": "bits", "latency": "seconds", "accuracy": "loss"}
GOALS = {"loss": "loss", "size": "bits", "latency": "seconds"}
ROUNDING = 1e-12  # of float sums, relative: a limit that is met but for it is met
HINT = "--bpw, --size, --latency, --max-kl or --prefer"


@dataclass(frozen=True)
class Budget:
    """Limits in bytes, bits per weight, seconds a decoded token and nats a token, or weights.

    ``prefer`` holds (axis, weight) and replaces the goal; limits hold beside it.
    """

    size: float | None = None
    bpw: float | None = None
    latency: float | None = None
    max_kl: float | None = None
    prefer: tuple[tuple[str, float], ...] = ()
    minimise: str = ""

    @staticmethod
    def parse(
        size: str = "",
        bpw: str = "",
        latency: str = "",
        max_kl: str = "",
        prefer: str = "",
        minimise: str = "",
    ) -> Budget:
        """Read the texts of the options; an empty text is no wish. Refuse what cannot be meant."""
        if minimise and minimise not in GOALS:
            raise LadderError(f"--minimise '{minimise}': write one of {', '.join(GOALS)}")
        budget = Budget(
            parse_size(size) if size else None,
            parse_number("--bpw", bpw, "3.5") if bpw else None,
            parse_time("--latency", latency) if latency else None,
            parse_number("--max-kl", max_kl, "0.05") if max_kl else None,
            parse_preferences(prefer) if prefer else (),
            minimise,
        )
        if budget == Budget(minimise=minimise):
            raise LadderError(f"no budget: say what the plan may cost with {HINT}")
        if budget.prefer and minimise:
            raise LadderError("--prefer and --minimise both say what to minimise; give one")
        return budget

    @property
    def timed(self) -> bool:
        """Whether times of products are needed."""
        wanted = self.latency is not None or self.minimise == "latency"
        return wanted or any(axis == "seconds" for axis, _ in self.prefer)

    @property
    def goal(self) -> str:
        """The axis to minimise where nothing is preferred."""
        if self.minimise:
            return GOALS[self.minimise]
        return "bits" if self.max_kl is not None else "loss"

    def __str__(self) -> str:
        names = {axis: name for name, axis in PREFERENCES.items()}
        weights = ",".join(f"{names[axis]}={weight:g}" for axis, weight in self.prefer)
        texts = [
            f"size {show_size(self.size)}" if self.size is not None else "",
            f"bpw {self.bpw:g}" if self.bpw is not None else "",
            f"latency {show_time(self.latency)}" if self.latency is not None else "",
            f"max-kl {self.max_kl:g}" if self.max_kl is not None else "",
            f"prefer {weights}" if weights else "",
            f"minimise {self.minimise}" if self.minimise else "",
        ]
        return ", ".join(filter(None, texts))


def parse_size(text: str) -> float:
    """``180MB`` or ``96MiB`` -> bytes."""
    return _with_unit("--size", text, SIZES, "180MB or 96MiB")


def parse_time(option: str, text: str) -> float:
    """``20ms`` -> seconds."""
    return _with_unit(option, text, TIMES, "20ms or 0.5s")


def parse_number(option: str, text: str, example: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise LadderError(f"{option} '{text}': write a positive number, for example {example}")
    return value


def parse_preferences(text: str) -> tuple[tuple[str, float], ...]:
    """``memory=1,latency=2,accuracy=3`` -> (axis, weight), the weights scaled to sum to 1.

    Pipelines write ``/`` for the comma.
    """
    weights: dict[str, float] = {}
    for item in filter(None, re.split(r"[,/]", text)):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        known = name in PREFERENCES and PREFERENCES[name] not in weights
        if not (known and math.isfinite(weight) and weight >= 0):
            raise LadderError(
                f"--prefer '{item}': write {', '.join(PREFERENCES)} once each with a number of 0 "
                "or more, for example memory=1,latency=1,accuracy=2"
            )
        weights[PREFERENCES[name]] = weight
    total = sum(weights.values())
    if not total:
        raise LadderError(f"--prefer '{text}': one weight at least is above 0")
    return tuple((axis, weight / total) for axis, weight in sorted(weights.items()) if weight)


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


def _units() -> list[tuple[str, float]]:
    return [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)]


def _rounded(value: float, up: bool, digits: int = 4) -> str:
    text = f"{value:.{digits}g}"
    if up and float(text) < value * (1 - ROUNDING):
        text = f"{value + 10.0 ** (math.floor(math.log10(value)) - digits + 1):.{digits}g}"
    return f"{float(text):.12g}"


def _with_unit(option: str, text: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", text.lower())
    unit = units.get(match[2]) if match else None
    if match is None or unit is None or float(match[1]) <= 0:
        raise LadderError(f"{option} '{text}': write a positive number with a unit: {example}")
    return float(match[1]) * unit
