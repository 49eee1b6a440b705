"""One word for how much time is spent: it stands for several options, which win where given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ladder.errors import LadderError
from ladder.support.suggest import did_you_mean

NORMAL = "normal"


@dataclass(frozen=True)
class Effort:
    """What an effort stands for: options by name. ``methods.BY_EFFORT`` has the rounding.

    ``minutes`` is about what a plan of 135 M weights takes on two cores.
    """

    minutes: int
    options: Mapping[str, int] = field(default_factory=dict)


# The options of ``normal`` are the defaults of the schema.
EFFORTS = {
    "quick": Effort(1, {"windows": 1, "tokens": 64}),
    NORMAL: Effort(5),
    "thorough": Effort(40, {"windows": 16, "tokens": 128, "long_tokens": 512, "refine": 2}),
}


def check_effort(effort: str) -> None:
    """Refuse an unknown effort."""
    if effort not in EFFORTS:
        raise LadderError(
            f"--effort '{effort}': give {', '.join(EFFORTS)}{did_you_mean(effort, EFFORTS)}"
        )


def with_effort(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options by name, with those that the effort stands for where they are not given.

    ``known`` are the names of the options that may be added.
    """
    effort = given.get("effort", NORMAL)
    check_effort(effort)
    added = {name: n for name, n in EFFORTS[effort].options.items() if name in known}
    return {**added, **given}


def effort_help() -> str:
    """The efforts with their time, for help."""
    times = ", ".join(f"{name} {about.minutes}" for name, about in EFFORTS.items())
    return (
        f"Time to spend on calibration and plans: {times} (minutes for 135 M weights on two "
        "cores, about). Stands for --windows, --tokens, --long-tokens, --refine and --rounding, "
        "which win where given."
    )
