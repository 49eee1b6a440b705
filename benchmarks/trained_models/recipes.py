"""What is trained, and how: a model by name, its size, and the steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ladder.support.cache import cache_folder

PIECES = 4096
COMMON = {
    "vocab_size": PIECES,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Recipe:
    """A training. ``config`` are arguments of the configuration class of the family ``model``."""

    model: str
    config: dict[str, Any]
    steps: int
    warm: int  # steps in which the learning rate rises
    windows: int = 4  # of a step
    tokens: int = 256  # of a window
    rate: float = 3e-3  # of vectors and embeddings
    matrix_rate: float = 0.02
    seed: int = 0

    def folder(self) -> Path:
        """Where the trained model lies in the cache."""
        text = json.dumps(asdict(self), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cache_folder() / "trained" / f"{self.model}-{key}"

    def network(self) -> Any:
        """The model, with random weights."""
        return FAMILIES[self.model](self.config)


def _mamba(config: dict[str, Any]) -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(**config))


def _hybrid(config: dict[str, Any]) -> Any:
    from transformers import JambaConfig, JambaForCausalLM

    return JambaForCausalLM(JambaConfig(**config))


def _llama(config: dict[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**config))


FAMILIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mamba": _mamba,
    "hybrid": _hybrid,
    "llama": _llama,
}
MAMBA = {
    "hidden_size": 256,
    "num_hidden_layers": 10,
    "state_size": 8,
    "time_step_rank": 16,
}
HYBRID = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "mamba_d_state": 8,
    "mamba_dt_rank": 16,
    "max_position_embeddings": 2048,
}
LLAMA = {
    "hidden_size": 320,
    "intermediate_size": 896,
    "num_hidden_layers": 8,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "max_position_embeddings": 2048,
}
RECIPES = {
    "mamba": Recipe("mamba", COMMON | MAMBA, steps=210, warm=12),
    "hybrid": Recipe("hybrid", COMMON | HYBRID, steps=270, warm=18),
    "llama": Recipe("llama", COMMON | LLAMA, steps=1500, warm=30),
}


def recipe(model: str, steps: int = 0) -> Recipe:
    """The recipe of a model by name, with another number of steps if one is given."""
    found = RECIPES[model]
    return replace(found, steps=steps) if steps else found
