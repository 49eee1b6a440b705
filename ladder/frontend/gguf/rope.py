"""Rotary positions as a GGUF file describes them: base, scaling, width, and factors by frequency.

Transformers takes the base from most files and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.gguf.files import values_of
from ladder.frontend.gguf.header import Header

SCALING = "rope.scaling."
ROPE_KEYS = (
    "rope.dimension_count", "rope.freq_base", "rope.freq_base_swa", "rope.scale_linear",
    *(SCALING + name for name in (
        "type", "factor", "attn_factor", "original_context_length", "finetuned", "yarn_ext_factor",
        "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_log_multiplier",
    )),
)  # fmt: skip
LONG, SHORT, BY_FREQUENCY = (
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "rope_freqs.weight",
)
FULL, SLIDING = "full_attention", "sliding_attention"
Own = Mapping[str, Any]


def set_rope(config: Any, own: Own, header: Header, taken: set[str]) -> None:
    """Write the file's positions into ``config``; ``taken`` are the keys that are there already."""
    found = getattr(config, "rope_parameters", None)
    if not found:
        _refuse_unused(own, header)
        return
    by_layer = FULL in found
    rope = found[FULL] if by_layer else found
    if "rope.freq_base" in own and "rope.freq_base" not in taken:
        rope["rope_theta"] = own["rope.freq_base"]
    if by_layer and "rope.freq_base_swa" in own:
        found[SLIDING]["rope_theta"] = own["rope.freq_base_swa"]
    _set_width(config, rope, own)
    rope.update(_scaling(config, own, header))


def _refuse_unused(own: Own, header: Header) -> None:
    for name in (LONG, SHORT, BY_FREQUENCY):
        if name in header.tensors:
            raise LadderError(f"{name}: the model has no rotary positions")
    if own.get(f"{SCALING}type", "none") != "none":
        raise LadderError(f"{SCALING}type = {own[f'{SCALING}type']}: it has no rotary positions")


def _set_width(config: Any, rope: dict[str, Any], own: Own) -> None:
    """The part of a head that is rotated."""
    width = own.get("rope.dimension_count")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    stated = int(head * rope.get("partial_rotary_factor", 1.0))
    if width is None or width == stated:
        return
    if "partial_rotary_factor" not in rope and width != head:
        raise LadderError(
            f"rope.dimension_count = {width} of {head}: {type(config).__name__} rotates whole "
            "heads; this kind of GGUF file is not supported"
        )
    rope["partial_rotary_factor"] = width / head


def _scaling(config: Any, own: Own, header: Header) -> dict[str, Any]:
    if LONG in header.tensors or SHORT in header.tensors:
        return _longrope(config, own, header)
    kind = own.get(f"{SCALING}type") or ("linear" if "rope.scale_linear" in own else "none")
    if kind not in KINDS:
        raise LadderError(
            f"{SCALING}type = {kind} has no rule (known: {', '.join(KINDS)}); "
            "this kind of GGUF file is not supported"
        )
    return KINDS[kind](config, own)


def _none(config: Any, own: Own) -> dict[str, Any]:
    return {}


def _linear(config: Any, own: Own) -> dict[str, Any]:
    return {"rope_type": "linear", "factor": _factor(own)}


def _yarn(config: Any, own: Own) -> dict[str, Any]:
    for name, plain in (("yarn_log_multiplier", 0), ("yarn_ext_factor", 1)):
        if own.get(SCALING + name, plain) not in (plain, -1):
            raise LadderError(f"{SCALING}{name} = {own[SCALING + name]} has no rule")
    factor = _factor(own)
    stated = own.get(f"{SCALING}yarn_attn_factor", own.get(f"{SCALING}attn_factor", 1))
    original = own.get(f"{SCALING}original_context_length", config.max_position_embeddings)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "attention_factor": float(stated) * (0.1 * math.log(factor) + 1 if factor > 1 else 1),
        "beta_fast": float(own.get(f"{SCALING}yarn_beta_fast", 32)),
        "beta_slow": float(own.get(f"{SCALING}yarn_beta_slow", 1)),
    }


def _longrope(config: Any, own: Own, header: Header) -> dict[str, Any]:
    """Factors by frequency for short and for long texts; those of short ones are used."""
    if not {LONG, SHORT} <= set(header.tensors):
        raise LadderError(f"{LONG} and {SHORT}: the file has only one of them")
    original = own.get(f"{SCALING}original_context_length", config.max_position_embeddings)
    stated = own.get(f"{SCALING}attn_factor")
    return {
        "rope_type": "longrope",
        "short_factor": values_of(header.tensors[SHORT]).ravel().tolist(),
        "long_factor": values_of(header.tensors[LONG]).ravel().tolist(),
        "original_max_position_embeddings": original,
        **({"attention_factor": float(stated)} if stated is not None else {}),
    }


def _factor(own: Own) -> float:
    found = own.get(f"{SCALING}factor", own.get("rope.scale_linear"))
    if not found:
        raise LadderError(f"{SCALING}type without {SCALING}factor: the file is damaged")
    return float(found)


KINDS: dict[str, Callable[[Any, Own], dict[str, Any]]] = {
    "none": _none,
    "linear": _linear,
    "yarn": _yarn,
}


def divide_frequencies(module: Any, header: Header) -> None:
    """Divide each frequency of ``module``'s rotary embeddings by the file's factor for it."""
    if BY_FREQUENCY not in header.tensors:
        return
    import torch

    factors = torch.from_numpy(np.array(values_of(header.tensors[BY_FREQUENCY])).ravel())
    touched = 0
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if name.endswith("inv_freq"):
                touched += 1
                _check_count(buffer, factors)
                setattr(part, name, buffer / factors)
    if not touched:
        raise LadderError(f"{BY_FREQUENCY}: {type(module).__name__} has no rotary frequencies")


def _check_count(buffer: Any, factors: Any) -> None:
    if buffer.shape != factors.shape:
        raise LadderError(
            f"{BY_FREQUENCY}: has {len(factors)} factors for {len(buffer)} frequencies"
        )
