"""Language models: prefill in chunks, decoding token by token, sampling, streaming.

A model holds one text. Calls of several threads are made one after another and change that text, so
threads with texts of their own need a model each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import numpy as np

from ladder.errors import LadderError, one_line
from ladder.ir.states import RECURRENT
from ladder.runtime.artifact import TOKENIZER, Artifact
from ladder.runtime.chat import Message, render
from ladder.runtime.generation import Generation
from ladder.runtime.manifest import ALL, DECODE, HIDDEN, LAST, PREFILL, SHORT
from ladder.runtime.sampler import Sampler
from ladder.runtime.sampling import Sampling
from ladder.runtime.session import Function, Session
from ladder.runtime.states import Snapshot, States

TOKENS_IN, POSITION_IN = "input_ids", "position"
WANTED = (ALL, LAST, None)


class LanguageModel:
    """A compiled causal language model with its states (the cache) in place."""

    def __init__(self, session: Session) -> None:
        facts = session.artifact.language_model
        assert facts is not None
        self._facts = facts
        self.session = session
        self.chunk, self.vocabulary = facts.chunk, facts.vocabulary
        self.eos = facts.eos
        self._decode, self._prefill = session.function(DECODE), session.function(PREFILL)
        self._decode.bind()
        self.states = States(facts.states, self._decode.inputs)
        self.context = facts.context if self.states.bounded else sys.maxsize
        _check_fits(self._decode, 1, self.states)
        # By the number of their tokens, the longest call first.
        self._prefill.bind(self.states.buffers)
        self._several = {self.chunk: self._prefill, **self._short_call()}
        for tokens, function in self._several.items():
            _check_fits(function, tokens, self.states)
        # Without these functions, prefill returns the logits of all tokens.
        self._heads = {n: session.function(n) for n in (LAST, ALL) if session.has_function(n)}
        if len(self._heads) == 1:
            missing = LAST if ALL in self._heads else ALL
            raise LadderError(f"the artifact has no function '{missing}'; compile the model again")
        for head in self._heads.values():
            head.bind()
        self._tokenizer: object | None = None
        # Called before each call of a compiled function: what it raises ends a long prompt early.
        self.before_call: Callable[[], object] = lambda: None

    def _short_call(self) -> dict[int, Function]:
        """The call of a few tokens, of models whose chunks cannot be padded."""
        if not self.session.has_function(SHORT):
            return {}
        short = self.session.function(SHORT)
        short.bind(self.states.buffers)
        given = short.inputs.get(TOKENS_IN)
        tokens = 0 if given is None else given.shape[-1]
        if not 1 < tokens < self.chunk:
            raise LadderError(f"function '{SHORT}' takes {tokens} tokens; compile the model again")
        return {tokens: short}

    @property
    def position(self) -> int:
        """The number of tokens that the states hold."""
        return self.states.position

    def reset(self) -> None:
        """Forget the text so far."""
        with self.session.lock:
            self.states.reset()

    def rewind(self, position: int) -> None:
        """Forget the tokens from ``position`` on; see ``snapshot`` for states that cannot."""
        with self.session.lock:
            self.states.rewind(position)

    def snapshot(self) -> Snapshot:
        """A copy of what the model holds, for ``restore``."""
        with self.session.lock:
            return self.states.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Return to the states at ``snapshot``."""
        with self.session.lock:
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
        with self.session.lock:
            return self._fed(tokens, logits)

    def _fed(self, tokens: Sequence[int], logits: str | None) -> np.ndarray:
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
        """The tokens of each call: prefill chunks, and the tail as one more or in short calls.

        Padding of the tail would change states that are replaced, or rows that are still needed.
        """
        if self.states.take_padding(self.chunk):
            for start in range(0, len(tokens), self.chunk):
                yield tokens[start : start + self.chunk]
            return
        for size in (*self._several, 1):
            whole = len(tokens) // size * size
            for start in range(0, whole, size):
                yield tokens[start : start + size]
            tokens = tokens[whole:]

    def _feed_piece(self, tokens: Sequence[int], logits: str | None) -> np.ndarray:
        """One call; prefill is padded: rows after the text are masked, and overwritten later."""
        self.before_call()
        function = self._decode if len(tokens) == 1 else self._call_of(len(tokens))
        ids = function.inputs[TOKENS_IN]
        ids[0, : len(tokens)] = tokens
        ids[0, len(tokens) :] = 0
        function.inputs[POSITION_IN][0] = self.position
        made, *rest = function.call()
        needs_head = function is not self._decode and bool(self._heads)
        width = self._heads[ALL].inputs[HIDDEN].shape[-1] if needs_head else self.vocabulary
        _check_rows(function, made, ids.shape[1], width)
        self.states.advance(len(tokens), dict(zip(function.outputs[1:], rest, strict=True)))
        if logits is None:
            return np.empty((0, self.vocabulary), np.float32)
        rows: np.ndarray = made[0, len(tokens) - 1 if logits == LAST else 0 : len(tokens)]
        return self._logits_of(rows) if needs_head else rows.copy()

    def _call_of(self, tokens: int) -> Function:
        """The shortest call that takes so many tokens."""
        return self._several[min(size for size in self._several if size >= tokens)]

    def _logits_of(self, hidden: np.ndarray) -> np.ndarray:
        """The logits of the hidden states [rows, D] of a prefill chunk."""
        head = self._heads[LAST if len(hidden) == 1 else ALL]
        head.inputs[HIDDEN][0, : len(hidden)] = hidden
        (logits,) = head.call()
        _check_rows(head, logits, head.inputs[HIDDEN].shape[1], self.vocabulary)
        rows: np.ndarray = logits[0, : len(hidden)].copy()
        return rows

    def step(self, token: int) -> np.ndarray:
        """Append one token; returns the logits after it, float32 [vocabulary]."""
        last: np.ndarray = self.feed([token])[-1]
        return last

    def stream(
        self, prompt: Sequence[int], limit: int, sampling: Sampling | None = None
    ) -> Generator[int, None, None]:
        """Yield up to ``limit`` new tokens after ``prompt``; ends at the end-of-text token."""
        sampler, before = Sampler(sampling or Sampling()), [*prompt]
        if not prompt:
            raise LadderError("the prompt has no tokens; give some text")
        start = self.position
        logits = self._continue(prompt, start)
        end = start + len(prompt)
        for made in range(limit):
            token = sampler.draw(logits, before)
            if token in self.eos:
                return
            yield token
            before.append(token)
            if made + 1 == limit or self.position >= self.context:
                return
            logits = self._continue([token], end)
            end += 1

    def _continue(self, tokens: Sequence[int], position: int) -> np.ndarray:
        """The logits after ``tokens``; refused where another has changed the text meanwhile."""
        with self.session.lock:
            if self.position != position:
                raise LadderError(
                    f"the model held {position} tokens and now holds {self.position}: something "
                    "else has changed its text; load one model for each thread"
                )
            last: np.ndarray = self.feed(tokens, LAST)[-1]
        return last

    def generation(
        self,
        prompt: str,
        tokens: int = 128,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """Text after ``prompt`` of at most ``tokens`` tokens: iterate over it for its pieces."""
        return Generation(self, self.encode(prompt), tokens, sampling, stop)

    def stream_text(
        self, prompt: str, limit: int, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Yield the text after ``prompt`` as it is generated, in whole characters."""
        return iter(self.generation(prompt, limit, sampling))

    def generate(
        self,
        prompt: str,
        tokens: int = 128,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The text after ``prompt``, of at most ``tokens`` tokens, up to a stop string."""
        return "".join(self.generation(prompt, tokens, sampling, stop))

    def chat(
        self,
        messages: Sequence[Message],
        tokens: int = 512,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The answer to messages with a role and a content, by the model's chat template."""
        self.reset()
        prompt = self.encode_chat(messages)
        return "".join(Generation(self, prompt, tokens, sampling, stop))

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Messages to tokens; the template itself writes the special ones."""
        text = render(self._facts.chat_template, messages, self._facts.special_tokens)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)  # type: ignore[attr-defined]

    @property
    def advised_sampling(self) -> Mapping[str, float]:
        """What the model's authors advise, by the names of ``Sampling``'s fields."""
        return self._facts.sampling

    def encode(self, text: str) -> list[int]:
        """Text to tokens, by the artifact's tokenizer."""
        return list(self.tokenizer.encode(text).ids)  # type: ignore[attr-defined]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text."""
        return str(self.tokenizer.decode(list(tokens)))  # type: ignore[attr-defined]

    @property
    def tokenizer(self) -> object:
        if self._tokenizer is None:
            self._tokenizer = _tokenizer_of(self.session.artifact)
        return self._tokenizer


def _check_fits(function: Function, rows: int, states: States) -> None:
    """Refuse a function that does not take ``rows`` tokens, or does not return the states."""
    for name, shape in ((TOKENS_IN, (1, rows)), (POSITION_IN, (1,))):
        found = function.inputs.get(name)
        if found is None or found.shape != shape or found.dtype.kind != "i":
            raise LadderError(
                f"function '{function.name}' must take '{name}', integers {list(shape)}; "
                "compile the model again"
            )
    for spec in states.specs:
        if spec.kind == RECURRENT and spec.next not in function.outputs[1:]:
            raise LadderError(
                f"function '{function.name}' does not return '{spec.next}'; compile the model again"
            )


def _check_rows(function: Function, made: np.ndarray, rows: int, width: int) -> None:
    """Refuse what a function returns for ``rows`` tokens if it is not [1, rows, width]."""
    if made.shape != (1, rows, width):
        raise LadderError(
            f"function '{function.name}' returned {list(made.shape)} for {rows} tokens of {width}; "
            "compile the model again"
        )


def _tokenizer_of(artifact: Artifact) -> object:
    if artifact.tokenizer is None:
        raise LadderError(f"{artifact.folder}: has no tokenizer; feed token ids instead")
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(artifact.tokenizer)
    except Exception as error:  # a bare Exception of its Rust code
        raise LadderError(
            f"{artifact.folder / TOKENIZER}: cannot be read: {one_line(error)}"
        ) from error
