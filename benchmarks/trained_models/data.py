"""The tokens that a model is trained on, and those that are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from benchmarks.trained_models.texts import held_out_text, training_text
from benchmarks.trained_models.vocabulary import train_tokenizer


@dataclass(frozen=True)
class Corpus:
    """``train`` and ``held_out`` are the tokens of the two texts, one after the other."""

    tokenizer: Tokenizer
    train: np.ndarray
    held_out: np.ndarray

    @staticmethod
    def of(text: str, held_out: str, pieces: int) -> Corpus:
        """With a tokenizer of so many pieces, trained on ``text``."""
        tokenizer = train_tokenizer(text, pieces)
        return Corpus(tokenizer, *(_tokens(tokenizer, part) for part in (text, held_out)))

    @staticmethod
    def of_packages(pieces: int) -> Corpus:
        return Corpus.of(training_text(), held_out_text(), pieces)

    def unigram_perplexity(self) -> float:
        """That of the held-out text for a model that knows only how often a token occurs."""
        counts = np.bincount(self.train, minlength=self.tokenizer.get_vocab_size()) + 1
        return float(np.exp(-np.log(counts / counts.sum())[self.held_out].mean()))


def _tokens(tokenizer: Tokenizer, text: str) -> np.ndarray:
    paragraphs = tokenizer.encode_batch(text.splitlines(keepends=True))
    return np.concatenate([np.array(p.ids, np.int64) for p in paragraphs])


def batch(tokens: np.ndarray, windows: int, size: int, seed: int, step: int) -> np.ndarray:
    """Windows [windows, size] from random places; a step's are the same after a restart."""
    starts = np.random.default_rng((seed, step)).integers(0, len(tokens) - size + 1, windows)
    return np.stack([tokens[start : start + size] for start in starts])
