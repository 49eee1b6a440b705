"""Causal language models of transformers, from a folder or a GGUF file."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.frontend.checkpoint import fill
from ladder.frontend.checkpoints import Checkpoint, Folder, Gguf, read_model
from ladder.frontend.conversation import advised_sampling, default_template, special_tokens
from ladder.frontend.expected import expected_logits
from ladder.frontend.language_model import trace_language_model
from ladder.frontend.model_states import find_states
from ladder.frontend.packed.stored import Stored
from ladder.frontend.positions import longest_text
from ladder.frontend.replacements.rwkv import unscaled
from ladder.frontend.types import Source


def load_folder(folder: Path, trust: bool = False) -> Source:
    """A Hugging Face folder: config.json, weights, tokenizer.json.

    Python code in it is run only if ``trust`` says so, and then belongs to the digest.
    """
    return _load(Folder(folder, trust))


def load_gguf(path: Path) -> Source:
    """A GGUF file, or any part of a split one, its weights dequantized to float32."""
    return _load(Gguf.at(path))


def _load(checkpoint: Checkpoint) -> Source:
    digest = checkpoint.digest()
    with _silence():
        opened = read_model(checkpoint)
        try:
            tokenizer = checkpoint.tokenizer()
        except Exception:
            tokenizer = None
        source = trace_model(opened.model, opened.stored, checkpoint.origin, digest)
    source.notes += opened.notes
    if tokenizer is None or not hasattr(tokenizer, "backend_tokenizer"):
        source.notes.append("no fast tokenizer found: prompts must be given as token numbers")
    else:
        source.tokenizer = tokenizer.backend_tokenizer.to_str()
        source.chat_template = default_template(tokenizer.chat_template)
        source.special_tokens = special_tokens(tokenizer)
    source.sampling = advised_sampling(opened.model.generation_config)
    source.eos = _eos(opened.model, tokenizer)
    return source


def trace_model(model: Any, stored: Stored, origin: str, digest: str) -> Source:
    """Trace a language model whose weights are ``stored``, or, where that is empty, in it."""
    with unscaled(model):
        states = find_states(model)
        traced = trace_language_model(model, states)
        fill(traced, stored)
        expected = expected_logits(model, states, stored)
    longest = longest_text(model.config.get_text_config())
    codes = {name: tensor.codes for name, tensor in stored.items() if tensor.codes is not None}
    source = Source(traced, origin, digest, states=states, longest=longest, expected=expected)
    source.codes = codes
    return source


def _eos(model: Any, tokenizer: Any) -> tuple[int, ...]:
    found: list[int] = []
    for holder in (model.generation_config, model.config, tokenizer):
        value = getattr(holder, "eos_token_id", None)
        found += value if isinstance(value, list) else [value] if value is not None else []
    return tuple(dict.fromkeys(int(v) for v in found))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Transformers' progress bars and advice stay out of our own progress."""
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(before)
