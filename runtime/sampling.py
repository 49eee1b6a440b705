"""How the next token is drawn from logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ladder.errors import LadderError


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 takes the most likely one (greedy).

    ``top_k`` keeps so many of the most likely tokens (0: all), ``top_p`` the most likely ones that
    share this much of the probability, ``min_p`` those with at least this part of the largest
    probability. ``repetition_penalty`` divides positive logits of tokens that the text has already,
    and multiplies negative ones (CTRL, arXiv:1909.05858); 1 changes nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise LadderError(f"temperature {self.temperature}: give 0 or more")
        if not 0 < self.top_p <= 1:
            raise LadderError(f"top_p {self.top_p}: give more than 0, at most 1")
        if not 0 <= self.min_p <= 1:
            raise LadderError(f"min_p {self.min_p}: give 0 to 1")
        for name in ("top_k", "seed"):
            if getattr(self, name) < 0:
                raise LadderError(f"{name} {getattr(self, name)}: give 0 or more")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise LadderError(f"repetition_penalty {self.repetition_penalty}: give more than 0")


def sampling_from(asked: Mapping[str, Any], advised: Mapping[str, float]) -> Sampling:
    """What was asked for, by the names of fields; the rest as a model's authors advise.

    None is nothing asked for, and advice on anything else than sampling is left out.
    """
    names = {f.name for f in fields(Sampling)}
    known: dict[str, Any] = {name: advised[name] for name in names & set(advised)}
    known |= {name: value for name, value in asked.items() if value is not None}
    return Sampling(**{**known, "top_k": int(known.get("top_k", 0))})
