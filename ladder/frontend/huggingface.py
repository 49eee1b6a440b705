"""Loads causal language models of transformers, from a folder or a GGUF file.

The key/value cache becomes named states of a fixed length that the graph updates in place
(``TensorScatter``). Attention stays one operator (ONNX ``Attention``), so that grouped-query heads
are never expanded. One trace with dynamic ``tokens`` serves prefill and decode.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.frontend.checkpoint import (
    Stored,
    fill,
    in_gguf,
    in_safetensors,
    of_parameters,
    without_memory,
)
from ladder.frontend.onnx_file import file_digest
from ladder.frontend.types import TOKENS, Source
from ladder.ir.states import CONTEXT, ROWS, STATE_PREFIX, StateSpec

ATTENTION = "ladder"
EXAMPLE_ROWS = 16  # rows of the states that a model is traced with
WHOLE = (
    "some weights of the model have other names in the checkpoint, so the checkpoint was read as a "
    "whole, which takes 4 bytes of memory per weight"
)


def load_folder(folder: Path) -> Source:
    """Load a Hugging Face folder: config.json, safetensors, tokenizer.json."""
    files = sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return _load(Checkpoint(folder), file_digest(*files))


def load_gguf(path: Path) -> Source:
    """Load a GGUF file; its weights are dequantized to float32 as in transformers."""
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
    """A folder with a model, or with a GGUF file."""

    folder: Path
    gguf: Path | None = None

    @property
    def origin(self) -> str:
        return str(self.gguf or self.folder)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for transformers. Python code in the folder is refused without asking."""
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        return options | ({"gguf_file": self.gguf.name} if self.gguf else {})

    def stored(self, module: Any) -> Stored:
        return in_gguf(self.gguf, module) if self.gguf else in_safetensors(self.folder)


def _load(checkpoint: Checkpoint, digest: str) -> Source:
    from transformers import AutoTokenizer

    with _silence():
        try:
            torch_model, stored = _opened(checkpoint)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
            raise LadderError(
                f"{checkpoint.origin}: transformers cannot load it: {reason}"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **checkpoint.options)
        except Exception:
            tokenizer = None
    states = states_of_config(torch_model.config.get_text_config())
    traced = trace_language_model(torch_model, states)
    source = Source(traced, checkpoint.origin, digest, states=states)
    fill(source.model, stored)
    if not stored:
        source.notes.append(WHOLE)
    if tokenizer is None or not hasattr(tokenizer, "backend_tokenizer"):
        source.notes.append("no fast tokenizer found: prompts must be given as token numbers")
    else:
        source.tokenizer = tokenizer.backend_tokenizer.to_str()
        source.chat_template = tokenizer.chat_template
    source.eos = _eos(torch_model, tokenizer)
    return source


def _opened(checkpoint: Checkpoint) -> tuple[Any, Stored]:
    """The model without weights, and its weights; or, if names differ, the model with weights."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    folder, options = checkpoint.folder, checkpoint.options
    config = AutoConfig.from_pretrained(folder, **options)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()
    stored = of_parameters(model, checkpoint.stored(model))
    if stored is None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        return model, {}
    without_memory(model)
    with contextlib.suppress(OSError):  # the file is optional
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model, stored


def _eos(model: Any, tokenizer: Any) -> tuple[int, ...]:
    found: list[int] = []
    for holder in (model.generation_config, model.config, tokenizer):
        value = getattr(holder, "eos_token_id", None)
        found += value if isinstance(value, list) else [value] if value is not None else []
    return tuple(dict.fromkeys(int(v) for v in found))


def states_of_config(config: Any) -> tuple[StateSpec, ...]:
    """Keys and values of every layer."""
    heads = config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return tuple(
        StateSpec(f"{STATE_PREFIX}{layer}.{part}", (1, heads, CONTEXT, size), "float32", ROWS, 2)
        for layer in range(config.num_hidden_layers)
        for part in ("key", "value")
    )


def trace_language_model(model: Any, specs: Sequence[StateSpec]) -> ir.Model:
    """Trace a causal language model into the IR, with named states and symbolic dimensions."""
    import torch
    from transformers import AttentionInterface

    from ladder.frontend.torch_module import trace

    AttentionInterface.register(ATTENTION, _attention)
    model.config._attn_implementation = ATTENTION
    states = [torch.from_numpy(spec.initial(EXAMPLE_ROWS)) for spec in specs]
    tokens, context = torch.export.Dim(TOKENS, min=2), torch.export.Dim(CONTEXT, min=8)
    traced = trace(
        _step_module(model),
        (torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, dtype=torch.long), states),
        dynamic_shapes={
            "input_ids": {1: tokens},
            "position": None,
            "states": [{spec.axis: context} for spec in specs],
        },
        input_names=["input_ids", "position", *(spec.name for spec in specs)],
        output_names=["logits", *(spec.next for spec in specs)],
    )
    _name_dims(traced)
    return traced


def _attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Attention as one ONNX operator: [1, heads, S, D] and grouped [1, kv heads, C, D]."""
    from torch.onnx.ops import symbolic

    attrs = {"scale": float(scaling)}
    out = symbolic(
        "Attention",
        [query, key, value, mask],
        attrs,
        dtype=query.dtype,
        shape=query.shape,
        version=24,
    )
    return out.transpose(1, 2).contiguous(), None


def _step_module(model: Any) -> Any:
    import torch
    from torch.onnx.ops import symbolic
    from transformers.cache_utils import Cache

    class States(Cache):  # type: ignore[misc, valid-type, unused-ignore]
        """The states as a cache of transformers; ``update`` writes the new rows in place."""

        def __init__(self, tensors: list[Any], start: Any) -> None:
            self.tensors, self.start = list(tensors), start
            self.layers: list[Any] = []

        def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
            self._write(2 * layer, key)
            self._write(2 * layer + 1, value)
            return self.tensors[2 * layer], self.tensors[2 * layer + 1]

        def _write(self, index: int, rows: Any) -> None:
            old = self.tensors[index]
            self.tensors[index] = symbolic(
                "TensorScatter",
                [old, rows, self.start],
                {"axis": 2},
                dtype=old.dtype,
                shape=old.shape,
                version=24,
            )

        def get_seq_length(self, *_: Any, **__: Any) -> int:
            return 0

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(
            self, input_ids: Any, position: Any, states: list[Any]
        ) -> tuple[Any, list[Any]]:
            places = position + torch.arange(input_ids.shape[1])
            seen = torch.arange(states[0].shape[2])[None, :] <= places[:, None]
            cache = States(states, position)
            out = self.inner(
                input_ids=input_ids,
                position_ids=places[None],
                attention_mask=seen[None, None],
                past_key_values=cache,
                use_cache=True,
            )
            return out.logits, cache.tensors

    return Step()


def _name_dims(model: ir.Model) -> None:
    """Rename the exporter's dimensions (s17, s70), and weights as in the model."""
    from ladder.ir.shapes import rename_dims

    first = model.graph.inputs[0].shape
    state = model.graph.inputs[2].shape
    assert first is not None and state is not None
    rename_dims(model, {str(first[1]): TOKENS, str(state[2]): CONTEXT})
    for value in list(model.graph.initializers.values()):
        if value.name and value.name.startswith("inner."):
            value.name = value.name.removeprefix("inner.")
    for node in model.graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        if scopes:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes.replace("'inner.", "'")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the progress bars and the advice of transformers."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
