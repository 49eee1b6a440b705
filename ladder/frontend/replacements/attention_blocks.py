"""Attention, rotary embeddings and MLPs that cannot be traced as they are.

Each replacement computes the same in another form: complex numbers as pairs, masks and biases that
follow from the mask of full attention instead of from the number of keys so far.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import torch

from ladder.frontend.attention import attention, refuse_unknown


def polar(size: Any, angle: Any) -> Any:
    """Complex numbers as pairs on a last axis."""
    return torch.stack([size * torch.cos(angle), size * torch.sin(angle)], dim=-1)


def _rotate(x: Any, factors: Any) -> Any:
    """Neighbours in ``x`` as complex numbers, times ``factors``."""
    real, imaginary = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = factors.unbind(-1)
    turned = [real * cos - imaginary * sin, real * sin + imaginary * cos]
    return torch.stack(turned, dim=-1).flatten(-2).type_as(x)


def rotate_heads_first(query: Any, key: Any, factors: Any) -> tuple[Any, Any]:
    return _rotate(query, factors.unsqueeze(1)), _rotate(key, factors.unsqueeze(1))


def rotate_heads_last(query: Any, key: Any, factors: Any) -> tuple[Any, Any]:
    return _rotate(query, factors.unsqueeze(2)), _rotate(key, factors.unsqueeze(2))


def sparse(self: Any, inputs: Any) -> Any:
    """Gemma 3n: all but the largest values become 0; how many is a constant."""
    cutoff = NormalDist().inv_cdf(float(self.activation_sparsity))
    mean = torch.mean(inputs, dim=-1, keepdim=True)
    deviation = torch.std(inputs, dim=-1, keepdim=True, unbiased=False)
    return torch.relu(inputs - (mean + deviation * cutoff))


def local(self: Any, query: Any, key: Any, value: Any, mask: Any) -> tuple[Any, None]:
    """GPT-Neo: a local layer sees the last keys of those that the mask shows."""
    seen = mask >= 0
    if self.attention_type == "local":
        end = seen.sum(dim=-1, keepdim=True)
        seen = seen & (torch.arange(seen.shape[-1]) >= end - self.config.window_size)
    out, _ = attention(self, query, key, value, seen, scaling=1.0)
    return out.transpose(1, 2), None


def biased(
    self: Any,
    hidden_states: Any,
    position_bias: Any,
    past_key_values: Any = None,
    attention_mask: Any = None,
    **options: Any,
) -> tuple[Any, None]:
    """MPT: the bias grows with the key's position; what a row has in common does not matter."""
    refuse_unknown("MptAttention", options)
    tokens, mixed = hidden_states.shape[1], self.Wqkv(hidden_states)
    if self.clip_qkv:
        mixed = mixed.clamp(min=-self.clip_qkv, max=self.clip_qkv)
    heads = (1, tokens, self.n_heads, self.head_dim)
    query, key, value = (part.reshape(heads).transpose(1, 2) for part in mixed.chunk(3, dim=2))
    key, value = past_key_values.update(key, value, self.layer_idx)
    slope = position_bias[..., -1:] - position_bias[..., -2:-1]
    scores = query @ key.transpose(-1, -2) * self.softmax_scale + slope * torch.arange(key.shape[2])
    scores = scores.masked_fill(attention_mask, torch.finfo(scores.dtype).min)
    out = torch.softmax(scores, dim=-1) @ value
    return self.out_proj(out.transpose(1, 2).reshape(1, tokens, -1)), None


def alibi(mask: Any, heads: int, dtype: Any) -> Any:
    """Falcon: slope times position, rounded to bfloat16, which ONNX Runtime cannot multiply."""
    slopes = torch.tensor(_slopes(heads))[:, None]
    places = (mask.cumsum(dim=-1) - 1) * mask
    return _rounded(_rounded(slopes) * _rounded(places)).reshape(heads, 1, -1)


def _rounded(x: Any) -> Any:
    return x.to(torch.bfloat16).to(torch.float32)


def _slopes(heads: int) -> list[float]:
    """Powers of 2 ** (-8 / heads); for other counts than powers of 2, those of the next ones."""
    whole = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    return first + [2 ** (-4 * (2 * i + 1) / whole) for i in range(heads - whole)]
