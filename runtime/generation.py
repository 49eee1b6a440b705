"""Text that a language model generates, piece by piece, with what it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ladder.runtime.sampling import Sampling
from ladder.runtime.text_stream import TextStream

if TYPE_CHECKING:
    from ladder.runtime.language_model import LanguageModel

STOP, LENGTH = "stop", "length"  # why a text ends, as the OpenAI protocol calls it


class Generation:
    """Iterate over it for pieces of text; its figures are complete when the iteration ends.

    ``prompt_tokens`` (those that were fed) and ``tokens`` count tokens, ``reused_tokens`` those of
    the prompt that the model had read before. ``first_seconds`` is the time to the first new one,
    ``seconds`` the whole time. ``finish`` is ``"stop"`` (the model or a stop string ended the text)
    or ``"length"`` (the limit or the context did).
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Sequence[int],
        limit: int,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.prompt_tokens, self.reused_tokens, self.tokens = len(prompt), 0, 0
        self.first_seconds = self.seconds = 0.0
        self.finish = LENGTH
        self.on_token: Callable[[int], object] = lambda token: None
        self.pieces: list[str] = []
        self._stream = model.stream(prompt, limit, sampling)
        self._text = TextStream(model.decode, stop)
        self._model, self._limit = model, limit

    def __iter__(self) -> Iterator[str]:
        start = time.perf_counter()
        for piece in self._pieces(start):
            self.seconds = time.perf_counter() - start
            if piece:
                self.pieces.append(piece)
                yield piece
        self.seconds = time.perf_counter() - start

    def _pieces(self, start: float) -> Iterator[str]:
        for token in self._stream:
            self.tokens += 1
            self.on_token(token)
            if self.tokens == 1:
                self.first_seconds = time.perf_counter() - start
            yield self._text.add(token)
            if self._text.stopped:
                self._stream.close()
                self.finish = STOP
                return
        self.finish = LENGTH if self._is_full() else STOP
        yield self._text.end()

    def _is_full(self) -> bool:
        return self.tokens >= self._limit or self._model.position >= self._model.context

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self.pieces)

    @property
    def prompt_rate(self) -> float:
        """Tokens of the prompt a second."""
        return self.prompt_tokens / self.first_seconds if self.first_seconds else 0.0

    @property
    def rate(self) -> float:
        """Generated tokens a second, after the first."""
        rest = self.seconds - self.first_seconds
        return (self.tokens - 1) / rest if self.tokens > 1 and rest > 0 else 0.0
