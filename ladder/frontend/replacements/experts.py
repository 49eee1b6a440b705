"""Experts that a family computes all at once: only those that a token chooses are needed."""

from __future__ import annotations

from typing import Any


def llama_4(self: Any, hidden_states: Any) -> tuple[Any, Any]:
    """Llama 4's mixture; a token is scaled by the score of its expert before it is multiplied."""
    import torch

    x = hidden_states.reshape(-1, self.hidden_dim)
    logits = torch.nn.functional.linear(x, self.router.weight)
    values, chosen = torch.topk(logits, self.top_k, dim=1)
    scaled = (x[:, None] * torch.sigmoid(values)[..., None]).reshape(-1, self.hidden_dim)
    ids, experts = chosen.reshape(-1), self.experts
    gate, up = _product(scaled, experts.gate_up_proj[ids]).chunk(2, dim=-1)
    routed = _product(up * experts.act_fn(gate), experts.down_proj[ids])
    total = routed.reshape(-1, self.top_k, self.hidden_dim).sum(dim=1)
    return self.shared_expert(x) + total, logits


def _product(x: Any, weights: Any) -> Any:
    """x [S, K] by a matrix [K, N] each."""
    import torch

    return torch.bmm(x.unsqueeze(1), weights).squeeze(1)
