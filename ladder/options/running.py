"""Options of ``ladder run``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.options.schema import option, read_all


@dataclass(frozen=True)
class RunOptions:
    """Options of how the text after a prompt is generated."""

    tokens: int = option(128, "Generate at most this many tokens.")
    temperature: float = option(0.0, "Sampling temperature; 0 always takes the most likely token.")
    top_p: float = option(1.0, "Nucleus sampling: sample from this share of the probability mass.")
    seed: int = option(0, "Random seed.")

    def __post_init__(self) -> None:
        read_all(self)

    def check(self) -> None:
        warm = math.isfinite(self.temperature) and self.temperature >= 0
        if self.tokens < 1 or not warm or not 0 < self.top_p <= 1:
            raise LadderError("--tokens is at least 1, --temperature 0 or more, --top-p in (0, 1]")
        if self.seed < 0:
            raise LadderError(f"--seed {self.seed}: give 0 or more")
