"""Attention as transformers asks for it, in operators of the IR.

Transformers calls an attention function with keywords, and a mask function for every kind of
layer: full, sliding window, chunked. Both are registered under the name ``ATTENTION``, so that the
model itself says what its layers attend to. A keyword without a meaning here is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ladder.errors import LadderError

ATTENTION = "ladder"
# What has no effect on one sequence without dropout. The mask says what a window or a chunk says.
WITHOUT_EFFECT = frozenset(
    "dropout sliding_window attention_chunk_size is_causal position_ids cache_position use_cache "
    "output_attentions output_hidden_states output_router_logits return_dict num_items_in_batch "
    "cu_seq_lens_q cu_seq_lens_k max_length_q max_length_k position_embeddings".split()
)


def register() -> None:
    """Make ``ATTENTION`` known to transformers, the function and its masks."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, mask)


def mask(**options: Any) -> Any:
    """Which keys a query sees, bool [1, 1, S, C], always spelled out."""
    from transformers.masking_utils import sdpa_mask

    always = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(**{**options, **always, "attention_mask": None})  # there is no padding


def attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    **keywords: Any,
) -> tuple[Any, None]:
    """Attention of [1, heads, S, D] over [1, kv heads, C, D]; as one operator where that can be."""
    softcap, sinks = keywords.pop("softcap", None), keywords.pop("s_aux", None)
    refuse_unknown(f"the attention of {_layer(module)}", keywords)
    if attention_mask is None:
        raise LadderError(f"{_layer(module)} attends without a mask; only causal models are traced")
    scale = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
    if sinks is None:
        out = _operator(query, key, value, attention_mask, scale, softcap)
    else:
        out = _with_sinks(query, key, value, attention_mask, scale, softcap, sinks)
    return out.transpose(1, 2).contiguous(), None


def refuse_unknown(caller: str, keywords: dict[str, Any], known: Collection[str] = ()) -> None:
    """Refuse a keyword that is not ``known``, unless it has no effect."""
    for name, value in keywords.items():
        if value is None or value is False or name in known or name in WITHOUT_EFFECT:
            continue
        raise LadderError(
            f"{caller} is called with '{name}', which the IR cannot express; "
            "this model is not supported"
        )


def _layer(module: Any) -> str:
    """The layer as messages name it."""
    number = getattr(module, "layer_idx", None)
    return type(module).__name__ + ("" if number is None else f" of layer {number}")


def _operator(
    query: Any, key: Any, value: Any, seen: Any, scale: float, softcap: float | None
) -> Any:
    """ONNX Attention, so that grouped-query heads are never expanded."""
    from torch.onnx.ops import symbolic

    attributes = {"scale": scale} | ({"softcap": float(softcap)} if softcap else {})
    return symbolic(
        "Attention",
        [query, key, value, seen],
        attributes,
        dtype=query.dtype,
        shape=(*query.shape[:-1], value.shape[-1]),
        version=24,
    )


def _with_sinks(
    query: Any,
    key: Any,
    value: Any,
    seen: Any,
    scale: float,
    softcap: float | None,
    sinks: Any,
) -> Any:
    """Each head has one more score, ``sinks``, which takes weight and has no value."""
    import torch

    _batch, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    grouped = query.reshape(key.shape[1], groups, tokens, size)
    scores = grouped @ key.transpose(0, 1).transpose(2, 3) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = torch.where(seen, scores, torch.finfo(scores.dtype).min)
    last = sinks.reshape(key.shape[1], groups, 1, 1).expand(-1, -1, tokens, 1)
    weights = torch.softmax(torch.cat([scores, last], dim=-1), dim=-1)[..., :-1]
    return (weights @ value.transpose(0, 1)).reshape(1, heads, tokens, value.shape[-1])
