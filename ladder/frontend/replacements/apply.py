"""Which functions of a model are replaced, while it is run or traced."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from ladder.frontend.replacements import (
    attention_blocks,
    convolution,
    experts,
    minimax,
    recurrent_gemma,
    rwkv,
    scans,
)
from ladder.frontend.traced_cache import TracedCache

# What many families call by the same name
SHARED: dict[str, Callable[..., Any]] = {
    "causal_conv1d_fn": convolution.causal_conv,
    "mamba_selective_scan": scans.selective_scan,
    "mamba2_chunk_scan": scans.chunk_scan,
    "torch_chunk_gated_delta_rule": scans.gated_delta_rule,
    "chunk_kimi_delta_attention": scans.gated_delta_rule,
}
# Module of a family -> what is replaced, from there or from torch
OWN: dict[str, dict[str, Callable[..., Any]]] = {
    "modeling_deepseek_v2": {
        "torch.polar": attention_blocks.polar,
        "apply_rotary_emb": attention_blocks.rotate_heads_first,
    },
    "modeling_llama4": {
        "torch.polar": attention_blocks.polar,
        "apply_rotary_emb": attention_blocks.rotate_heads_last,
        "Llama4TextMoe.forward": experts.llama_4,
    },
    "modeling_gemma3n": {"Gemma3nTextMLP._gaussian_topk": attention_blocks.sparse},
    "modeling_gpt_neo": {"GPTNeoSelfAttention._attn": attention_blocks.local},
    "modeling_mpt": {"MptAttention.forward": attention_blocks.biased},
    "modeling_falcon": {"build_alibi_tensor": attention_blocks.alibi},
    "modeling_minimax": {
        "MiniMaxCache": TracedCache,
        "MiniMaxLightningAttention.forward": minimax.lightning_attention,
    },
    "modeling_rwkv": {
        "RwkvSelfAttention.forward": rwkv.attention,
        "RwkvFeedForward.forward": rwkv.feed_forward,
    },
    "modeling_recurrent_gemma": {
        "RecurrentGemmaRecurrentBlock.forward": recurrent_gemma.recurrent_block,
        "RecurrentGemmaRglru._rnn_scan": recurrent_gemma.scan,
        "SqrtBoundDerivative": recurrent_gemma.Root,
    },
}


@contextmanager
def replaced(model: Any) -> Iterator[None]:
    """The functions of ``model``'s family that are replaced, are so within the block."""
    family = type(model).__module__
    shared = {n: f for n, f in SHARED.items() if hasattr(sys.modules[family], n)}
    with ExitStack() as stack:
        for path, function in {**shared, **OWN.get(family.rpartition(".")[2], {})}.items():
            *owners, name = path.split(".")
            owner: Any = importlib.import_module(
                owners.pop(0) if owners[:1] == ["torch"] else family
            )
            for part in owners:
                owner = getattr(owner, part)
            stack.enter_context(patch.object(owner, name, function))
        yield
