"""Recurrent operators of the dialect: what they compute, in one plain loop over tokens.

Each takes the state before a call and gives the state after it, so that a text has the same
outputs however it is split into calls. Everything is float32 with a batch of 1; S is the number of
tokens of a call, at least 1. The overload of a node says which variant it is; ``group``, the
numbers of heads and ``scale`` are its attributes.

    CausalConvWithState(x, weight, bias or none, state) -> y, state       overload: activation
    LinearAttention(q, k, v, state, decay, beta) -> y, state              overload: update rule
    SelectiveScan(x, dt, a, b, c, state) -> y, state
    LinearRecurrence(x, decay, state) -> y, state
    Wkv(k, v, decay, first, state) -> y, state

The first two have the meaning of the operators of these names in ONNX 27.
``ladder.ir.recurrence_bodies`` says the same in standard operators.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ladder.ir.numerics import F32

OPERATORS = (
    "CausalConvWithState",
    "LinearAttention",
    "SelectiveScan",
    "LinearRecurrence",
    "Wkv",
)
LINEAR, GATED, DELTA, GATED_DELTA = "linear", "gated", "delta", "gated_delta"
DECAYS, CORRECTS = (GATED, GATED_DELTA), (DELTA, GATED_DELTA)
WKV_RESET = (0.0, 0.0, -1e38)  # numerator, denominator, maximum before the first token
NONE, SILU = "none", "silu"


def silu(x: F32) -> F32:
    """x times its sigmoid."""
    y: F32 = (x / (1 + np.exp(-x))).astype(np.float32)
    return y


def causal_conv(
    x: F32, weight: F32, bias: F32 | None, state: F32, activation: str = NONE
) -> tuple[F32, F32]:
    """A convolution of each channel with its own past.

    x [1, C, S], weight [C, 1, k], bias [C] or None, state [1, C, k - 1], the last inputs before x.
    Returns y [1, C, S] and the state after x. Taps are added in ascending order, then the bias.
    """
    taps: int = weight.shape[2]
    inputs: F32 = np.concatenate([state, x], axis=2)
    y: F32 = np.zeros_like(x)
    for tap in range(taps):
        y += inputs[:, :, tap : tap + x.shape[2]] * weight[None, :, 0, tap, None]
    if bias is not None:
        y += bias[:, None]
    after = inputs[:, :, inputs.shape[2] - taps + 1 :]
    return silu(y) if activation == SILU else y, after


def linear_attention(
    query: F32,
    key: F32,
    value: F32,
    state: F32,
    decay: F32 | None,
    beta: F32 | None,
    scale: float,
) -> tuple[F32, F32]:
    """Attention whose memory is a matrix for each head, changed by every token.

    query [1, S, Hq * dk], key [1, S, H * dk], value [1, S, H * dv], state [1, H, dk, dv]; Hq is a
    multiple of H. ``decay`` [1, S, H] or [1, S, H * dk] is a logarithm; None keeps everything.
    With ``beta`` [1, S, H] a token stores what its key does not recall yet. Returns y
    [1, S, Hq * dv] and the state after the tokens.
    """
    heads, size = state.shape[1:3]
    tokens = query.shape[1]
    k, v = (part.reshape(tokens, heads, -1) for part in (key, value))
    q = query.reshape(tokens, heads, -1, size)
    memory, outputs = state[0], []
    for t in range(tokens):
        if decay is not None:
            memory = memory * np.exp(decay[0, t].reshape(heads, -1, 1))
        new = v[t][:, None]
        if beta is not None:
            new = (new - k[t][:, None] @ memory) * beta[0, t].reshape(heads, 1, 1)
        memory = memory + k[t][..., None] * new
        outputs.append(q[t] @ memory * np.float32(scale))
    return np.stack(outputs).reshape(1, tokens, -1), memory[None]


def selective_scan(x: F32, dt: F32, a: F32, b: F32, c: F32, state: F32) -> tuple[F32, F32]:
    """The scan of Mamba 1: N values for each channel, with a step size of the token's own.

    x and dt [1, S, D], a [D, N], b and c [1, S, N], state [1, D, N]. Returns y [1, S, D] and the
    state after the tokens.
    """
    held, outputs = state[0], []
    for xt, dtt, bt, ct in _tokens(x, dt, b, c):
        held = np.exp(dtt[:, None] * a) * held + (dtt * xt)[:, None] * bt
        outputs.append((held * ct).sum(-1, dtype=np.float32))
    return np.stack(outputs)[None], held[None]


def linear_recurrence(x: F32, decay: F32, state: F32) -> tuple[F32, F32]:
    """Each channel forgets by a factor of the token's own: x and decay [1, S, D], state [1, D]."""
    held, outputs = state[0], []
    for xt, factor in _tokens(x, decay):
        held = factor * held + xt
        outputs.append(held)
    return np.stack(outputs)[None], held[None]


def wkv(key: F32, value: F32, decay: F32, first: F32, state: F32) -> tuple[F32, F32]:
    """The average of RWKV 4: values weighted by exp(key), which fade; the newest has a bonus.

    key and value [1, S, D], decay and first [D], state [1, 3, D]: numerator and denominator, both
    divided by exp(maximum), and the maximum (``WKV_RESET``). Returns y [1, S, D] and the state.
    """
    (top, bottom, most), outputs = state[0], []
    for kt, vt in _tokens(key, value):
        old, new, _ = _shares(most, kt + first)
        outputs.append((old * top + new * vt) / (old * bottom + new))
        old, new, most = _shares(most + decay, kt)
        top, bottom = old * top + new * vt, old * bottom + new
    return np.stack(outputs)[None], np.stack([top, bottom, most])[None]


def _shares(old: F32, new: F32) -> tuple[F32, F32, F32]:
    """exp of both, divided by exp of the larger, and the larger."""
    most = np.maximum(old, new)
    return np.exp(old - most), np.exp(new - most), most


def _tokens(*arrays: F32) -> Iterator[tuple[F32, ...]]:
    """The rows of each token in arrays [1, S, ...]."""
    return zip(*(array[0] for array in arrays), strict=True)
