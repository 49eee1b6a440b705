"""Options of ``ladder run``."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.options.schema import option, read_all


@dataclass(frozen=True)
class RunOptions:
    """How the text after a prompt is made."""

    tokens: int = option(128, "New tokens at most.")
    temperature: float = option(0.0, "Temperature of sampling; 0 takes the likeliest token.")
    top_p: float = option(1.0, "Nucleus sampling: share of the probability to sample from.")
    seed: int = option(0, "Seed of the random numbers.")

    def __post_init__(self) -> None:
        read_all(self)

    def check(self) -> None:
        if self.tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise LadderError("--tokens is at least 1, --temperature 0 or more, --top-p in (0, 1]")
