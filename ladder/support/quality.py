"""What a KL divergence from the float model means for a reader of the text.

Measured on SmolLM2-135M: at 0.13 perplexity rises from 22.0 to 22.6, at 0.35 to 27.2, at 1.1 to
43, at 2.4 to 118, at 4 answers are no sentences.
"""

from __future__ import annotations

CLOSE, USABLE, WEAK = 0.15, 0.6, 1.5  # nats per token: the most that each word allows
WORDS = (
    (CLOSE, "close to the float model"),
    (USABLE, "usable"),
    (WEAK, "weak: answers are often wrong"),
)
NOT_USABLE = "not usable: the text makes no sense"


def quality(kl: float) -> str:
    """Plain words for a mean KL divergence in nats per token."""
    return next((word for most, word in WORDS if kl <= most), NOT_USABLE)


def is_usable(kl: float) -> bool:
    """Whether the model may be used at all."""
    return kl <= WEAK
