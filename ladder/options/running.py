"""Options of ``ladder run`` and ``ladder chat``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.options.schema import option, read_all
from ladder.runtime.sampling import Sampling

SAMPLING = "Sampling (by default as the model's generation_config.json advises, else greedy)"


@dataclass(frozen=True)
class RunOptions:
    """Options of how text is generated."""

    tokens: int = option(128, "Generate at most this many tokens.", least=1)
    stop: tuple[str, ...] = option(
        (), "Text at which generation ends; it is not part of the result. Repeatable."
    )
    temperature: float | None = option(
        None, "0 always takes the most likely token; larger numbers vary more.", panel=SAMPLING
    )
    top_k: int | None = option(
        None, "Sample from so many of the most likely tokens (0: all).", panel=SAMPLING
    )
    top_p: float | None = option(
        None, "Sample from the most likely tokens with this share of the probability.",
        panel=SAMPLING,
    )  # fmt: skip
    min_p: float | None = option(
        None, "Leave out tokens less likely than this part of the most likely one.", panel=SAMPLING
    )
    repetition_penalty: float | None = option(
        None, "Make tokens that the text has already less likely; 1 changes nothing.",
        panel=SAMPLING,
    )  # fmt: skip
    seed: int = option(0, "Random seed.", least=0, panel=SAMPLING)

    def __post_init__(self) -> None:
        read_all(self)
        self.sampling({})

    def sampling(self, advised: Mapping[str, float]) -> Sampling:
        """What was asked for; the rest as the model's authors advise, in ``advised``."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        asked = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in asked.items() if value is not None}
        known = {name: value for name, value in advised.items() if name in names}
        if "top_k" in known:
            known["top_k"] = int(known["top_k"])
        try:
            return Sampling(**{**known, **given}, seed=self.seed)
        except LadderError as error:
            raise LadderError(f"--{str(error).replace('_', '-')}") from error
