"""What a plan may cost: limits, preferences and a goal, read from the texts of options."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ladder.errors import LadderError
from ladder.passes.allocation.axes import (
    LOSS,
    SIZE,
    Axis,
    goals,
    limited,
    preferences,
    suggestion,
)

BUDGET = (*(axis.option for axis in limited()), "prefer", "minimise")  # the options
HINT = suggestion(limited(), "--prefer")


@dataclass(frozen=True)
class Budget:
    """Limits by option, and what is minimised within them.

    ``prefer`` holds (what is counted, weight) and replaces the goal; limits hold next to it.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    prefer: tuple[tuple[str, float], ...] = ()
    minimise: str = ""

    @staticmethod
    def of(texts: Mapping[str, str]) -> Budget:
        """Read the texts of options by name; an empty one sets no limit. Refuse invalid ones."""
        prefer, minimise = texts.get("prefer", ""), texts.get("minimise", "")
        if minimise and minimise not in goals():
            raise LadderError(f"--minimise '{minimise}': write one of {', '.join(goals())}")
        limits = {
            axis.option: axis.unit.parse(axis.flag, text)
            for axis in limited()
            if (text := texts.get(axis.option, ""))
        }
        budget = Budget(limits, parse_preferences(prefer) if prefer else (), minimise)
        if not budget.limits and not budget.prefer:
            raise LadderError(f"no budget: say what the plan may cost with {HINT}")
        if budget.prefer and minimise:
            raise LadderError("--prefer and --minimise both say what to minimise; give one")
        return budget

    def limit(self, axis: Axis) -> float | None:
        """The limit of an axis, if there is one."""
        return self.limits.get(axis.option)

    def limited_to(self, axis: Axis, value: float) -> Budget:
        """The budget with another limit of an axis."""
        return replace(self, limits={**self.limits, axis.option: value})

    def only(self, wanted: Callable[[Axis], bool]) -> Budget:
        """The budget with the limits of some axes only."""
        kept = {axis.option for axis in limited() if wanted(axis)}
        return Budget({option: value for option, value in self.limits.items() if option in kept})

    @property
    def asked(self) -> list[Axis]:
        """The axes that have a limit."""
        return [axis for axis in limited() if axis.option in self.limits]

    @property
    def timed(self) -> bool:
        """Whether times of products are needed."""
        wanted = [*self.asked, *([goals()[self.minimise]] if self.minimise else [])]
        preferred = {what for what, _ in self.prefer}
        wanted += [axis for axis in preferences().values() if axis.counted in preferred]
        return any(axis.timed for axis in wanted)

    @property
    def goal(self) -> str:
        """What is counted and minimised where there are no preferences."""
        if self.minimise:
            return goals()[self.minimise].counted
        return SIZE.counted if LOSS.option in self.limits else LOSS.counted

    def __str__(self) -> str:
        names = {axis.counted: name for name, axis in preferences().items()}
        weights = ",".join(f"{names[what]}={weight:g}" for what, weight in self.prefer)
        texts = [
            f"{axis.flag[2:]} {axis.unit.show(self.limits[axis.option])}" for axis in self.asked
        ]
        texts += [f"prefer {weights}"] if weights else []
        texts += [f"minimise {self.minimise}"] if self.minimise else []
        return ", ".join(texts)


def parse_preferences(text: str) -> tuple[tuple[str, float], ...]:
    """``memory=1,latency=2,accuracy=3`` -> (what is counted, weight), scaled to sum to 1.

    Pipelines write ``/`` for the comma.
    """
    known, weights = preferences(), dict[str, float]()
    for item in filter(None, re.split(r"[,/]", text)):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        new = name in known and known[name].counted not in weights
        if not (new and math.isfinite(weight) and weight >= 0):
            raise LadderError(
                f"--prefer '{item}': write {', '.join(known)}, each at most once, with a "
                "number of 0 or more, for example memory=1,latency=1,accuracy=2"
            )
        weights[known[name].counted] = weight
    total = sum(weights.values())
    if not total:
        raise LadderError(f"--prefer '{text}': at least one number must be above 0")
    return tuple((what, weight / total) for what, weight in sorted(weights.items()) if weight)
