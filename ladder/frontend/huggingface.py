"""Causal language models of transformers, from a folder or a GGUF file."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.errors import LadderError, one_line
from ladder.frontend.checkpoint import (
    Stored,
    fill,
    in_gguf,
    in_safetensors,
    of_parameters,
    without_memory,
)
from ladder.frontend.expected import expected_logits
from ladder.frontend.language_model import trace_language_model
from ladder.frontend.model_states import find_states
from ladder.frontend.onnx_file import file_digest
from ladder.frontend.positions import longest_text
from ladder.frontend.replacements.rwkv import unscaled
from ladder.frontend.types import Source

EAGER = {"attn_implementation": "eager"}  # the simplest form; a trace chooses another
WHOLE = (
    "not every weight of the model is a tensor of its own name in safetensors or GGUF: the "
    "checkpoint was read as a whole, 4 bytes a weight of memory"
)


def load_folder(folder: Path) -> Source:
    """A Hugging Face folder: config.json, safetensors, tokenizer.json."""
    files = sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return _load(Checkpoint(folder), file_digest(*files))


def load_gguf(path: Path) -> Source:
    """A GGUF file, its weights dequantized to float32 as transformers does it."""
    _check_gguf(path)
    return _load(Checkpoint(path.parent, path), file_digest(path))


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise LadderError(f"{path}: not a GGUF file (it begins with {magic!r})")
    from gguf import GGUFReader

    try:
        with _silence():
            reader = GGUFReader(path)
    except Exception as error:
        raise LadderError(f"{path}: a truncated or damaged GGUF file; fetch it again") from error
    end = max((int(t.data_offset + t.n_bytes) for t in reader.tensors), default=0)
    if path.stat().st_size < end:
        raise LadderError(
            f"{path}: truncated: {path.stat().st_size} of {end} bytes; fetch it again"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A folder, or a GGUF file in one."""

    folder: Path
    gguf: Path | None = None

    @property
    def origin(self) -> str:
        return str(self.gguf or self.folder)

    @property
    def options(self) -> dict[str, Any]:
        """How transformers finds it. Python code in the folder is refused, not asked about."""
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        return options | ({"gguf_file": self.gguf.name} if self.gguf else {})

    def stored(self, module: Any) -> Stored:
        return in_gguf(self.gguf, module) if self.gguf else in_safetensors(self.folder)


def _load(checkpoint: Checkpoint, digest: str) -> Source:
    from transformers import AutoTokenizer

    with _silence():
        try:
            torch_model, stored = _opened(checkpoint)
        except LadderError:
            raise
        except Exception as error:
            raise LadderError(
                f"{checkpoint.origin}: transformers cannot load it: {one_line(error)}"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **checkpoint.options)
        except Exception:
            tokenizer = None
        source = trace_model(torch_model, stored, checkpoint.origin, digest)
    if not stored:
        source.notes.append(WHOLE)
    if tokenizer is None or not hasattr(tokenizer, "backend_tokenizer"):
        source.notes.append("no fast tokenizer found: prompts must be given as token numbers")
    else:
        source.tokenizer = tokenizer.backend_tokenizer.to_str()
        source.chat_template = tokenizer.chat_template
    source.eos = _eos(torch_model, tokenizer)
    return source


def trace_model(model: Any, stored: Stored, origin: str, digest: str) -> Source:
    """Trace a language model whose weights are ``stored``, or, where that is empty, in it."""
    with unscaled(model):
        states = find_states(model)
        traced = trace_language_model(model, states)
        fill(traced, stored)
        expected = expected_logits(model, states, stored)
    longest = longest_text(model.config.get_text_config())
    return Source(traced, origin, digest, states=states, longest=longest, expected=expected)


def _opened(checkpoint: Checkpoint) -> tuple[Any, Stored]:
    """The model without its weights, and these; or with them, if they have other names there."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    folder, options = checkpoint.folder, checkpoint.options
    config = AutoConfig.from_pretrained(folder, **options)
    if config.is_encoder_decoder:
        raise LadderError(
            f"{checkpoint.origin}: {config.model_type} is an encoder-decoder, no causal language "
            "model; load its parts as torch modules with ladder.load(module, example_inputs)"
        )
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **EAGER)
    model.tie_weights()
    stored = of_parameters(model, checkpoint.stored(model))
    if stored is None:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, **EAGER, **options
        )
        return model, {}
    without_memory(model)
    with contextlib.suppress(OSError):  # it has none
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model, stored


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
