"""Tiny Hugging Face folders whose weights are packed, damaged, or in several files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

HIDDEN, INNER, VOCABULARY = 128, 256, 128
CONFIG = hf.LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=HIDDEN,
    intermediate_size=INNER,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.1,
    max_position_embeddings=64,
    architectures=["LlamaForCausalLM"],
)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@cache
def model() -> Any:
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(CONFIG)


def weights() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model().state_dict().items()}


def projections() -> list[str]:
    """The modules whose weights are packed."""
    return [n.removesuffix(".weight") for n in weights() if n.split(".")[-2] in PROJECTIONS]


def write_config(folder: Path, quantization: Mapping[str, Any] | None, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    said = {**CONFIG.to_dict(), **changed}
    if quantization:
        said["quantization_config"] = dict(quantization)
    (folder / "config.json").write_text(json.dumps(said))
    return folder


def write(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    quantization: Mapping[str, Any] | None = None,
    **changed: Any,
) -> Path:
    """A folder of one file; ``changed`` are other values in config.json."""
    write_config(folder, quantization, **changed)
    save(folder / "model.safetensors", tensors)
    return folder


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, {"format": "pt"})


def write_index(folder: Path, in_file: Mapping[str, str]) -> None:
    index = {"metadata": {}, "weight_map": dict(in_file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
