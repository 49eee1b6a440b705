"""What the metadata of a GGUF file say of the model, beyond what transformers takes from them.

Every key of the model is applied here or by transformers, has no effect on what is computed, or
refuses the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ladder.errors import LadderError
from ladder.frontend.gguf.header import Header
from ladder.frontend.gguf.rope import ROPE_KEYS, set_rope

# Keys without an effect on what is computed, or with one that the tensors' shapes have too.
NEUTRAL = (
    "context_length", "block_count", "vocab_size", "tensor_data_layout", "rope.scaling.finetuned",
    "feed_forward_length", "embedding_length", "leading_dense_block_count",
)  # fmt: skip
# Keys that set a field of the configuration: the first of these that it has.
FIELDS: dict[str, tuple[str, ...]] = {
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_epsilon": (
        "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps",
    ),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "use_parallel_residual": ("use_parallel_residual",),
    "logit_scale": ("logit_scale",),
}  # fmt: skip
# llama.cpp scales attention of these by hidden size / heads where they have so many layers.
BY_HIDDEN_SIZE = {"gemma2": 46, "gemma3": 62}


def amend(config: Any, header: Header) -> None:
    """Apply to transformers' ``config`` what it lacks; refuse a key that has no rule."""
    architecture = header.metadata["general.architecture"]
    own = {
        key.removeprefix(f"{architecture}."): value
        for key, value in header.metadata.items()
        if key.startswith(f"{architecture}.")
    }
    taken = _taken_by_transformers(architecture, config)
    config.tie_word_embeddings = config.tie_word_embeddings and _tied(header)
    for key, value in own.items():
        if key not in taken and key not in NEUTRAL and key not in ROPE_KEYS and key not in SPECIAL:
            _set(config, f"{architecture}.{key}", FIELDS.get(key, ()), value)
    for key, apply in SPECIAL.items():
        apply(config, own, f"{architecture}.{key}")
    set_rope(config, own, header, taken)


def _tied(header: Header) -> bool:
    """Whether no part of the file has an output of its own."""
    return "output.weight" not in header.tensors or header.metadata["general.architecture"] in (
        "falcon",
        "bloom",
    )


def _taken_by_transformers(architecture: str, config: Any) -> set[str]:
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    known = GGUF_CONFIG_MAPPING
    for name in (architecture, config.model_type, config.model_type.removesuffix("_text")):
        if name in known:
            return {key for key, field in known[name].items() if field is not None}
    return set()


def _set(config: Any, key: str, fields: tuple[str, ...], value: Any) -> None:
    for field in fields:
        if hasattr(config, field):
            setattr(config, field, value)
            return
    if value not in (0, False, "", None, []):
        raise LadderError(
            f"{key} = {value}: {type(config).__name__} of transformers has nothing like it; "
            "this kind of GGUF file is not supported"
        )


def _window(config: Any, own: Mapping[str, Any], key: str) -> None:
    """A window that some layers have and others not must be known by the layer."""
    window = own.get("attention.sliding_window")
    if not window:
        return
    if hasattr(config, "use_sliding_window"):
        raise LadderError(
            f"{key} = {window}: {type(config).__name__} has windows in some layers, and nothing "
            "says in which; this kind of GGUF file is not supported"
        )
    _set(config, key, FIELDS["attention.sliding_window"], window)


def _width_of_values(config: Any, own: Mapping[str, Any], key: str) -> None:
    value, keys = own.get("attention.value_length"), own.get("attention.key_length")
    if value is not None and value != keys:
        _set(config, key, ("v_head_dim",), value)


def _causal(config: Any, own: Mapping[str, Any], key: str) -> None:
    if own.get("attention.causal", True) is not True:
        raise LadderError(f"{key} = false: not a causal language model")


def _attention_scale(config: Any, own: Mapping[str, Any], key: str) -> None:
    """Of attention's products: stated, or by llama.cpp's rule for the Gemma family."""
    scale = own.get("attention.scale")
    if not hasattr(config, "query_pre_attn_scalar"):
        _set(config, key, (), scale)
    elif scale:
        config.query_pre_attn_scalar = 1 / scale**2
    else:
        family = config.model_type.removesuffix("_text")
        large = config.num_hidden_layers == BY_HIDDEN_SIZE.get(family)
        width = config.hidden_size // config.num_attention_heads if large else config.head_dim
        config.query_pre_attn_scalar = width


SPECIAL: dict[str, Callable[[Any, Mapping[str, Any], str], None]] = {
    "attention.sliding_window": _window,
    "attention.value_length": _width_of_values,
    "attention.causal": _causal,
    "attention.scale": _attention_scale,
}
