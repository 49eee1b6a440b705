"""Options of ``ladder run`` and ``ladder chat``."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.options.schema import option, read_all

PANEL = "Sampling (by default as the model's generation_config.json advises, else greedy)"

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class RunOptions:
    """Options of how text is generated."""

    tokens: int = option(128, "Generate at most this many tokens.", least=1)
    stop: tuple[str, ...] = option(
        (), "Text at which generation ends; it is not part of the result. Repeatable."
    )
    temperature: float | None = option(
        None, "0 always takes the most likely token; larger numbers vary more.", panel=PANEL
    )
    top_k: int | None = option(
        None, "Sample from so many of the most likely tokens (0: all).", panel=PANEL
    )
    top_p: float | None = option(
        None, "Sample from the most likely tokens with this share of the probability.",
        panel=PANEL,
    )  # fmt: skip
    min_p: float | None = option(
        None, "Leave out tokens less likely than this part of the most likely one.", panel=PANEL
    )
    repetition_penalty: float | None = option(
        None, "Make tokens that the text has already less likely; 1 changes nothing.",
        panel=PANEL,
    )  # fmt: skip
    seed: int = option(0, "Random seed.", least=0, panel=PANEL)

    def __post_init__(self) -> None:
        read_all(self)
