"""Perplexity of a text, and the KL divergence between the predictions of two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from ladder.errors import LadderError
from ladder.support.progress import track


class Predictor(Protocol):
    """The part of a language model's interface that evaluation needs."""

    context: int

    def reset(self) -> None: ...

    def feed(self, tokens: list[int]) -> np.ndarray: ...


@dataclass
class Score:
    """Perplexity of the text; with a reference also KL(model || reference) per token.

    ``kl_mean`` and ``kl_p99`` are in nats; ``top1_agreement`` is the share of tokens for which
    both predict the same next token.
    """

    perplexity: float
    tokens: int
    reference_perplexity: float | None = None
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1_agreement: float | None = None
    notes: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    model: Predictor,
    tokens: Sequence[int],
    window: int,
    reference: Predictor | None = None,
    start: Sequence[int] = (),
) -> Score:
    """Score ``model`` on ``tokens`` in separate windows; each starts with an empty context.

    The tokens ``start``, with which the tokenizer begins a text, come first in every window.
    """
    size = window - len(start)
    if size < 1:
        raise LadderError(f"windows of {window} tokens: the tokenizer begins with {len(start)}")
    windows = [[*start, *tokens[i : i + size]] for i in range(0, len(tokens), size)]
    windows = [w for w in windows if len(w) > max(len(start), 1)]
    if not windows:
        raise LadderError("the text is too short to score: it needs at least two tokens")
    losses, other_losses, divergences, agreements = [], [], [], []
    for piece in track(windows, "score the text"):
        own = _log_probabilities(model, piece, len(start))
        losses.append(_loss(own, piece))
        if reference is not None:
            other = _log_probabilities(reference, piece, len(start))
            other_losses.append(_loss(other, piece))
            divergences.append((np.exp(own) * (own - other)).sum(-1))
            agreements.append(own.argmax(-1) == other.argmax(-1))
    score = Score(_perplexity(losses), sum(len(loss) for loss in losses))
    if reference is not None:
        kl = np.concatenate(divergences)
        score.reference_perplexity = _perplexity(other_losses)
        score.kl_mean, score.kl_p99 = float(kl.mean()), float(np.percentile(kl, 99))
        score.top1_agreement = float(np.concatenate(agreements).mean())
    return score


def _log_probabilities(model: Predictor, piece: list[int], given: int) -> np.ndarray:
    """The model's log probabilities of each token after the ``given`` ones, and after the first.

    float32 [tokens, vocabulary].
    """
    model.reset()
    logits: np.ndarray = model.feed(piece)[max(given - 1, 0) : -1]
    logits = np.subtract(logits, logits.max(-1, keepdims=True))
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True, dtype=np.float32))
    return logits


def _loss(log_p: np.ndarray, piece: list[int]) -> np.ndarray:
    return -log_p[np.arange(len(log_p)), piece[-len(log_p) :]]


def _perplexity(losses: list[np.ndarray]) -> float:
    return float(np.exp(np.concatenate(losses).mean(dtype=np.float64)))
