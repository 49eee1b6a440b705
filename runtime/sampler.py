"""Draws tokens from logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladder.runtime.sampling import Sampling


class Sampler:
    """Draws tokens, always the same ones for a seed."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.random = np.random.default_rng(sampling.seed)

    def draw(self, logits: np.ndarray, before: Sequence[int]) -> int:
        """A token from logits [vocabulary], after the tokens ``before``."""
        logits = self._penalised(logits, before)
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        kept, probabilities = self._kept(logits)
        return int(self.random.choice(kept, p=probabilities))

    def _penalised(self, logits: np.ndarray, before: Sequence[int]) -> np.ndarray:
        penalty = self.sampling.repetition_penalty
        if penalty == 1 or not len(before):
            return logits
        seen = np.unique(np.asarray(before))
        changed = logits.copy()
        old = changed[seen]
        changed[seen] = np.where(old > 0, old / penalty, old * penalty)
        return changed

    def _kept(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens to choose from, most likely first, and their probabilities."""
        how = self.sampling
        scaled = logits.astype(np.float64) / how.temperature
        order = np.argsort(-scaled, kind="stable")[: how.top_k or None]
        p = np.exp(scaled[order] - scaled[order[0]])
        p = p[p >= how.min_p]  # of the largest, which is 1 here
        p /= p.sum()
        p = p[: int(np.searchsorted(np.cumsum(p), how.top_p)) + 1]
        return order[: len(p)], p / p.sum()
