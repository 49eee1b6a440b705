"""Causal convolutions with a state."""

from __future__ import annotations

from typing import Any

from transformers.activations import ACT2FN

from ladder.frontend.attention import refuse_unknown
from ladder.frontend.carried import now, operator
from ladder.ir.recurrence import NONE, SILU

SILUS = ("silu", "swish")


def causal_conv(
    hidden_states: Any, weight: Any, bias: Any = None, activation: str | None = None, **options: Any
) -> Any:
    """A convolution of each channel of ``hidden_states`` [1, C, T] with its past; weight [C, k].

    The cache has put the inputs before this call in front of them.
    """
    refuse_unknown("causal_conv1d_fn", options)
    conv = now().convolution
    assert conv is not None and conv.all_inputs is hidden_states
    fused = SILU if activation in SILUS else NONE
    y = with_state(conv.name, conv.state, conv.inputs, weight, bias, fused)
    return y if activation is None or fused == SILU else ACT2FN[activation](y)


def with_state(name: str, state: Any, x: Any, weight: Any, bias: Any, activation: str) -> Any:
    """The operator over x [1, C, S] after ``state``, which is called ``name``."""
    channels = weight.shape[0]
    operands = [x, weight.unsqueeze(1), bias, state]
    shapes = [x.shape, state.shape]
    y, after = operator("CausalConvWithState", activation, operands, shapes, group=channels)
    now().put(name, after)
    return y
