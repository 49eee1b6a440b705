"""Language models: prefill in chunks, decoding token by token, sampling, streaming."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.runtime.artifact import TOKENIZER
from ladder.runtime.manifest import ALL, DECODE, HIDDEN, LAST, PREFILL
from ladder.runtime.session import Session
from ladder.runtime.states import Snapshot, States

WANTED = (ALL, LAST, None)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 takes the most likely one (greedy)."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class LanguageModel:
    """A compiled causal language model with its states (the cache) in place."""

    def __init__(self, session: Session) -> None:
        facts = session.artifact.language_model
        assert facts is not None
        self.session = session
        self.chunk, self.vocabulary = facts.chunk, facts.vocabulary
        self.eos = facts.eos
        self._decode, self._prefill = session.function(DECODE), session.function(PREFILL)
        self._decode.bind()
        self.states = States(facts.states, self._decode.inputs)
        self.context = facts.context if self.states.bounded else sys.maxsize
        self._prefill.bind(self.states.buffers)
        # Without these functions, prefill returns the logits of all tokens.
        self._heads = {n: session.function(n) for n in (LAST, ALL) if session.has_function(n)}
        for head in self._heads.values():
            head.bind()
        self._tokenizer: object | None = None

    @property
    def position(self) -> int:
        """The number of tokens that the states hold."""
        return self.states.position

    def reset(self) -> None:
        """Forget the text so far."""
        self.states.reset()

    def rewind(self, position: int) -> None:
        """Forget the tokens from ``position`` on; see ``snapshot`` for states that cannot."""
        self.states.rewind(position)

    def snapshot(self) -> Snapshot:
        """A copy of what the model holds, for ``restore``."""
        return self.states.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Return to the states at ``snapshot``."""
        self.states.restore(snapshot)

    def feed(self, tokens: Sequence[int], logits: str | None = ALL) -> np.ndarray:
        """Append tokens; returns logits, float32 [rows, vocabulary].

        ``logits`` says whose: those of ``all`` tokens, of the ``last`` one, or of none (None). A
        prompt needs the last ones only, which saves the time of the head for all other tokens.
        """
        if logits not in WANTED:
            raise LadderError(f"logits='{logits}': give 'all', 'last' or None")
        if not tokens:
            raise LadderError("no tokens to feed; give at least one")
        if min(tokens) < 0 or max(tokens) >= self.vocabulary:
            raise LadderError(f"a token is outside the vocabulary of {self.vocabulary}")
        if self.position + len(tokens) > self.context:
            raise LadderError(
                f"{self.position + len(tokens)} tokens do not fit the context of {self.context}; "
                "shorten the prompt or compile with a larger --context"
            )
        *before, end = self._pieces(tokens)
        rows = [self._feed_piece(piece, ALL if logits == ALL else None) for piece in before]
        rows.append(self._feed_piece(end, logits))
        return np.concatenate(rows) if len(rows) != 1 else rows[0]

    def _pieces(self, tokens: Sequence[int]) -> Iterator[Sequence[int]]:
        """The tokens of each call: prefill chunks, and the tail as one more or token by token.

        Padding of the tail would change states that are replaced, or rows that are still needed.
        """
        padded = self.states.take_padding(self.chunk)
        exact = len(tokens) if padded else len(tokens) // self.chunk * self.chunk
        for start in range(0, exact, self.chunk):
            yield tokens[start : start + self.chunk]
        for token in tokens[exact:]:
            yield [token]

    def _feed_piece(self, tokens: Sequence[int], logits: str | None) -> np.ndarray:
        """One call; prefill is padded: rows after the text are masked, and overwritten later."""
        function = self._decode if len(tokens) == 1 else self._prefill
        ids = function.inputs["input_ids"]
        ids[0, : len(tokens)] = tokens
        ids[0, len(tokens) :] = 0
        function.inputs["position"][0] = self.position
        made, *rest = function.call()
        self.states.advance(len(tokens), dict(zip(function.outputs[1:], rest, strict=True)))
        if logits is None:
            return np.empty((0, self.vocabulary), np.float32)
        rows: np.ndarray = made[0, len(tokens) - 1 if logits == LAST else 0 : len(tokens)]
        needs_head = function is self._prefill and self._heads
        return self._logits_of(rows) if needs_head else rows.copy()

    def _logits_of(self, hidden: np.ndarray) -> np.ndarray:
        """The logits of the hidden states [rows, D] of a prefill chunk."""
        head = self._heads[LAST if len(hidden) == 1 else ALL]
        head.inputs[HIDDEN][0, : len(hidden)] = hidden
        (logits,) = head.call()
        rows: np.ndarray = logits[0, : len(hidden)].copy()
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
        logits = self.feed(prompt, LAST)[-1]
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
        """Yield new text as it is generated, in whole characters."""
        made: list[int] = []
        shown = ""
        for token in self.stream(self.encode(prompt), limit, sampling):
            made.append(token)
            text = self.decode(made)
            if not text.endswith("\ufffd"):  # an incomplete character waits for the next token
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
                raise LadderError(f"{artifact.folder}: has no tokenizer; feed token ids instead")
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
