"""Reuses what a model has read: a prompt that begins with it is not fed from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ladder.runtime.generation import Generation

if TYPE_CHECKING:
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.sampling import Sampling


class PrefixReuse:
    """The tokens that a model has read. Nothing else may change the model's text meanwhile."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._fed: list[int] = []

    def generation(
        self,
        tokens: Sequence[int],
        limit: int,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """The text after ``tokens``, whatever the model holds; ``reused`` of them are not fed."""
        reused = self._keep(tokens)
        made = Generation(self.model, tokens[reused:], limit, sampling, stop)
        made.reused_tokens = reused
        self._fed = [*tokens]
        made.on_token = self._fed.append
        return made

    def _keep(self, tokens: Sequence[int]) -> int:
        """How many tokens the model has read as they are; it forgets the others."""
        fed = self._fed[: self.model.position]
        same = 0
        while same < min(len(fed), len(tokens) - 1) and fed[same] == tokens[same]:
            same += 1
        if same == self.model.position:
            return same
        if not self.model.states.rewindable:
            self.model.reset()
            return 0
        self.model.rewind(same)
        return same
