"""Language models: prefill in chunks, decode token by token, sample, stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.runtime.artifact import TOKENIZER
from ladder.runtime.session import Session

DECODE, PREFILL = "decode", "prefill"


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 takes the likeliest (greedy)."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class LanguageModel:
    """A compiled causal language model with its states (the cache) in place."""

    def __init__(self, session: Session) -> None:
        facts = session.artifact.language_model
        assert facts is not None
        self.session = session
        self.context: int = facts["context"]
        self.chunk: int = facts["chunk"]
        self.vocabulary: int = facts["vocabulary"]
        self.eos: tuple[int, ...] = tuple(facts["eos"])
        self.position = 0
        self._decode, self._prefill = session.function(DECODE), session.function(PREFILL)
        self._decode.bind()
        states = {n: a for n, a in self._decode.inputs.items() if n in facts["states"]}
        self._prefill.bind(states)
        self.states = states
        self._tokenizer: object | None = None

    def reset(self) -> None:
        """Forget the text so far."""
        self.position = 0

    def feed(self, tokens: Sequence[int]) -> np.ndarray:
        """Append tokens; returns their logits, float32 [len(tokens), vocabulary]."""
        if not tokens:
            raise LadderError("no tokens to feed; give at least one")
        if min(tokens) < 0 or max(tokens) >= self.vocabulary:
            raise LadderError(f"a token is outside the vocabulary of {self.vocabulary}")
        if self.position + len(tokens) > self.context:
            raise LadderError(
                f"{self.position + len(tokens)} tokens do not fit the context of {self.context}; "
                "shorten the prompt or compile with a larger --context"
            )
        rows = []
        for start in range(0, len(tokens), self.chunk):
            rows.append(self._feed_chunk(tokens[start : start + self.chunk]))
        return np.concatenate(rows) if len(rows) != 1 else rows[0]

    def _feed_chunk(self, tokens: Sequence[int]) -> np.ndarray:
        """One prefill call (padded: what lies behind the text is masked and overwritten later)."""
        function = self._decode if len(tokens) == 1 else self._prefill
        ids = function.inputs["input_ids"]
        ids[0, : len(tokens)] = tokens
        ids[0, len(tokens) :] = 0
        function.inputs["position"][0] = self.position
        logits = function.call()[0]
        self.position += len(tokens)
        rows: np.ndarray = logits[0, : len(tokens)].copy()
        return rows

    def step(self, token: int) -> np.ndarray:
        """Append one token; returns the logits after it, float32 [vocabulary]."""
        last: np.ndarray = self.feed([token])[-1]
        return last

    def stream(
        self, prompt: Sequence[int], limit: int, sampling: Sampling | None = None
    ) -> Iterator[int]:
        """Yield up to ``limit`` new tokens after ``prompt``; ends at the end-of-text token."""
        draw = _Sampler(sampling or Sampling())
        if not prompt:
            raise LadderError("the prompt has no tokens; give some text")
        logits = self.feed(prompt)[-1]
        for made in range(limit):
            token = draw(logits)
            if token in self.eos:
                return
            yield token
            if made + 1 == limit or self.position >= self.context:
                return
            logits = self.step(token)

    def stream_text(
        self, prompt: str, limit: int, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Yield new text as it is made; pieces join to whole characters."""
        made: list[int] = []
        shown = ""
        for token in self.stream(self.encode(prompt), limit, sampling):
            made.append(token)
            text = self.decode(made)
            if not text.endswith("\ufffd"):  # an unfinished character waits for its next token
                yield text[len(shown) :]
                shown = text

    def encode(self, text: str) -> list[int]:
        """Text to tokens, by the artifact's tokenizer."""
        return list(self.tokenizer.encode(text).ids)  # type: ignore[attr-defined]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text."""
        return str(self.tokenizer.decode(list(tokens)))  # type: ignore[attr-defined]

    @property
    def tokenizer(self) -> object:
        if self._tokenizer is None:
            artifact = self.session.artifact
            if not artifact.has_tokenizer:
                raise LadderError(
                    f"{artifact.folder}: has no tokenizer; feed token numbers instead"
                )
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(artifact.folder / TOKENIZER))
        return self._tokenizer


class _Sampler:
    """Draws a token from logits [vocabulary]."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.random = np.random.default_rng(sampling.seed)

    def __call__(self, logits: np.ndarray) -> int:
        if self.sampling.temperature <= 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self.sampling.temperature
        p = np.exp(scaled - scaled.max())
        p /= p.sum()
        order = np.argsort(-p)
        kept = order[: int(np.searchsorted(np.cumsum(p[order]), self.sampling.top_p)) + 1]
        return int(self.random.choice(kept, p=p[kept] / p[kept].sum()))
