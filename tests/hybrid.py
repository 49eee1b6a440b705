"""Small random state-space and hybrid models of transformers, and how they are traced."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

TOKENS, VOCABULARY = 8, 64
SMALL = {"hidden_size": 32, "vocab_size": VOCABULARY}


def mamba() -> Any:
    return hf.MambaForCausalLM(hf.MambaConfig(**SMALL, num_hidden_layers=2, state_size=8))


def mamba2() -> Any:
    shape = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8, "state_size": 8}
    return hf.Mamba2ForCausalLM(hf.Mamba2Config(**SMALL, num_hidden_layers=1, **shape))


def falcon_h1() -> Any:
    state = {"d_ssm": 32, "n_heads": 4, "d_head": 8, "n_groups": 1, "d_state": 8, "chunk_size": 8}
    attention = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 48}
    mixer = {f"mamba_{name}": value for name, value in state.items()}
    return hf.FalconH1ForCausalLM(
        hf.FalconH1Config(**SMALL, num_hidden_layers=1, **attention, **mixer)
    )


class Logits(torch.nn.Module):  # type: ignore[misc]
    """The outputs for the whole text at once, without a cache."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> Any:
        return self.model(input_ids=ids, use_cache=False).logits
