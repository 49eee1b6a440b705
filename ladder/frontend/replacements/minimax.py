"""Lightning attention of MiniMax: each head forgets at a constant rate."""

from __future__ import annotations

from typing import Any

import torch

from ladder.frontend.attention import refuse_unknown
from ladder.frontend.carried import now
from ladder.frontend.replacements.scans import linear_attention
from ladder.ir.recurrence import GATED


def lightning_attention(self: Any, hidden_states: Any, **options: Any) -> tuple[Any, None]:
    """``MiniMaxLightningAttention.forward`` for hidden_states [1, S, K]."""
    refuse_unknown("lightning attention", options, ("attention_mask", "past_key_values"))
    heads, size = self.num_attention_heads, self.head_dim
    mixed = self.act_fn(self.qkv_proj(hidden_states)).unflatten(-1, (heads, 3 * size))
    query, key, value = mixed.split(size, dim=-1)
    decay = -self.slope_rate.flatten().expand(1, hidden_states.shape[1], heads)
    now().scan = f"{self.layer_idx}.recurrent"
    y, after = linear_attention(GATED, query, key, value, decay, None)
    now().put(now().scan, after)
    gate = torch.sigmoid(self.output_gate(hidden_states))
    return self.out_proj(gate * self.norm(y.flatten(2))), None
