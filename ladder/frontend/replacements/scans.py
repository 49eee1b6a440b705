"""Scans over tokens that begin with the state of the call before: Mamba 1 and 2, delta rules."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from ladder.frontend.attention import refuse_unknown
from ladder.frontend.carried import now, operator
from ladder.ir.recurrence import GATED, GATED_DELTA

# The state of the call before is always given, and how a text is cut into chunks has no effect.
SCAN_OPTIONS = (
    "delta_bias",
    "delta_softplus",
    "return_last_state",
    "use_mambapy",
    "use_associative_scan",
)
CHUNK_OPTIONS = (
    "chunk_size",
    "dt_bias",
    "dt_softplus",
    "dt_limit",
    "initial_states",
    "return_final_states",
)
DELTA_OPTIONS = ("chunk_size", "initial_state", "output_final_state")


def selective_scan(
    hidden_states: Any,
    dt: Any,
    a: Any,
    b: Any,
    c: Any,
    D: Any = None,
    z: Any = None,
    **options: Any,
) -> Any:
    """Mamba 1: hidden_states, dt and z [1, D, S], a [D, N], b and c [1, N, S]."""
    refuse_unknown("mamba_selective_scan", options, SCAN_OPTIONS)
    state = _state_of_scan((1, *a.shape))
    x, dt, b, c = (part.transpose(1, 2) for part in (hidden_states, dt, b, c))
    dt = _step_size(dt, options.get("delta_bias"), options.get("delta_softplus", False))
    y, after = operator("SelectiveScan", "", [x, dt, a, b, c, state], [x.shape, state.shape])
    y = (y if D is None else y + x * D).transpose(1, 2)
    y = y if z is None else y * functional.silu(z)
    return (y, after) if options.get("return_last_state") else y


def _state_of_scan(shape: tuple[int, ...]) -> Any:
    """The state of the next scan; where a layer scans its heads one by one, that of a head."""
    carried = now()
    held = carried.get(carried.scan)
    if held is None:
        return torch.zeros(shape)  # the layer has not said yet what it keeps
    if held.ndim == len(shape):
        return held
    carried.scanned += 1
    return held[:, carried.scanned - 1]


def _step_size(dt: Any, bias: Any, softplus: bool) -> Any:
    dt = dt if bias is None else dt + bias
    return functional.softplus(dt) if softplus else dt


def chunk_scan(
    hidden_states: Any, dt: Any, a: Any, b: Any, c: Any, D: Any = None, **options: Any
) -> Any:
    """Mamba 2: hidden_states [1, S, H, P], dt [1, S, H], a [H], b and c [1, S, G, N]."""
    refuse_unknown("mamba2_chunk_scan", options, CHUNK_OPTIONS)
    heads = hidden_states.shape[2]
    dt = _step_size(dt, options.get("dt_bias"), options.get("dt_softplus", False))
    dt = torch.clamp(dt, *options.get("dt_limit", (0.0, float("inf"))))
    b, c = (part.repeat_interleave(heads // part.shape[2], dim=2) for part in (b, c))
    y, after = linear_attention(GATED, c, b, hidden_states * dt[..., None], dt * a, None)
    y = y if D is None else y + hidden_states * D[:, None]
    return (y, after) if options.get("return_final_states") else y


def gated_delta_rule(
    query: Any,
    key: Any,
    value: Any,
    g: Any,
    beta: Any,
    use_qk_l2norm_in_kernel: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    """Gated delta rules: query and key [1, S, G, dk], value [1, S, H, dv], beta [1, S, H].

    ``g`` is [1, S, H] (Qwen3-Next), or [1, S, H, dk] (Kimi).
    """
    refuse_unknown("a gated delta rule", options, DELTA_OPTIONS)
    if use_qk_l2norm_in_kernel:
        query, key = _normal(query), _normal(key)
    heads = value.shape[2]
    query, key = (part.repeat_interleave(heads // part.shape[2], dim=2) for part in (query, key))
    decay = g.flatten(2)
    return linear_attention(GATED_DELTA, query, key, value, decay, beta, query.shape[-1] ** -0.5)


def _normal(x: Any, smallest: float = 1e-6) -> Any:
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + smallest)


def linear_attention(
    rule: str, query: Any, key: Any, value: Any, decay: Any, beta: Any, scale: float = 1.0
) -> tuple[Any, Any]:
    """The operator over query and key [1, S, H, dk], value [1, S, H, dv]; y [1, S, H, dv]."""
    heads, size = key.shape[2:]
    state = now().recurrent(now().scan, (1, heads, size, value.shape[3]))
    flat = [part.flatten(2) for part in (query, key, value)]
    y, after = operator(
        "LinearAttention",
        rule,
        [*flat, state, decay, beta],
        [flat[2].shape, state.shape],
        q_num_heads=heads,
        kv_num_heads=heads,
        scale=scale,
    )
    return y.reshape(value.shape), after
