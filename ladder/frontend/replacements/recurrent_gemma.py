"""RecurrentGemma: its recurrent blocks keep their states in the modules."""

from __future__ import annotations

from typing import Any

import torch

from ladder.frontend.attention import refuse_unknown
from ladder.frontend.carried import now, operator
from ladder.frontend.replacements.convolution import with_state
from ladder.ir.recurrence import NONE


def recurrent_block(
    self: Any, input_states: Any, position_ids: Any, **options: Any
) -> tuple[Any, None]:
    """``RecurrentGemmaRecurrentBlock.forward`` for input_states [1, S, K]."""
    refuse_unknown("a recurrent block", options, ("attention_mask", "past_key_values"))
    layer, weight = now().layer_of(self), self.conv_1d.weight.squeeze(1)
    x = self.linear_x(input_states).transpose(1, 2)
    state = now().recurrent(f"{layer}.conv", (1, weight.shape[0], weight.shape[1] - 1))
    x = with_state(f"{layer}.conv", state, x, weight, self.conv_1d.bias, NONE)
    now().scan = f"{layer}.recurrent"
    y = self.rg_lru(x.transpose(1, 2), position_ids)
    self.rg_lru.recurrent_states = None  # it would keep a tensor of the trace
    return self.linear_out(y * self.act_fn(self.linear_y(input_states))), None


def scan(
    self: Any, hidden_states: Any, recurrent_gate: Any, reset: Any, **options: Any
) -> tuple[Any, Any]:
    """``RecurrentGemmaRglru._rnn_scan``: hidden_states and recurrent_gate [1, S, D]."""
    refuse_unknown("_rnn_scan", options, ("recurrent_states",))
    name = now().scan
    state = now().recurrent(name, (1, hidden_states.shape[2]))
    operands = [hidden_states, recurrent_gate * ~reset, state]
    y, after = operator("LinearRecurrence", "", operands, [hidden_states.shape, state.shape])
    now().put(name, after)
    return y, after


class Root:
    """``SqrtBoundDerivative`` without its derivative."""

    apply = staticmethod(torch.sqrt)
