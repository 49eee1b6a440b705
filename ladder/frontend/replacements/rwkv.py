"""RWKV 4: its blocks keep the token before, and an average of values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ladder.frontend.attention import refuse_unknown
from ladder.frontend.carried import now, operator
from ladder.ir.recurrence import WKV_RESET


def attention(self: Any, hidden: Any, **options: Any) -> tuple[Any, None]:
    """``RwkvSelfAttention.forward`` for hidden [1, S, K]."""
    refuse_unknown("RwkvSelfAttention", options, ("state",))
    before = _shifted(f"{self.layer_id}.shift", hidden)
    key, value, receptance = (
        part(_mixed(hidden, before, mix))
        for part, mix in (
            (self.key, self.time_mix_key),
            (self.value, self.time_mix_value),
            (self.receptance, self.time_mix_receptance),
        )
    )
    y = _average(f"{self.layer_id}.wkv", key, value, -torch.exp(self.time_decay), self.time_first)
    return self.output(torch.sigmoid(receptance) * y), None


def feed_forward(self: Any, hidden: Any, **options: Any) -> tuple[Any, None]:
    """``RwkvFeedForward.forward`` for hidden [1, S, K]."""
    refuse_unknown("RwkvFeedForward", options, ("state",))
    before = _shifted(f"{self.layer_id}.mlp_shift", hidden)
    key = self.key(_mixed(hidden, before, self.time_mix_key))
    receptance = self.receptance(_mixed(hidden, before, self.time_mix_receptance))
    return torch.sigmoid(receptance) * self.value(torch.square(torch.relu(key))), None


def _shifted(name: str, hidden: Any) -> Any:
    """The token before each one; the last token is kept as a state."""
    last = now().recurrent(name, (1, 1, hidden.shape[2]))
    now().put(name, hidden[:, -1:])
    return torch.cat([last, hidden[:, :-1]], dim=1)


def _mixed(hidden: Any, before: Any, share: Any) -> Any:
    return hidden * share + before * (1 - share)


def _average(name: str, key: Any, value: Any, decay: Any, first: Any) -> Any:
    state = now().recurrent(name, (1, len(WKV_RESET), key.shape[2]), WKV_RESET)
    shapes = [key.shape, state.shape]
    y, after = operator("Wkv", "", [key, value, decay, first, state], shapes)
    now().put(name, after)
    return y


@contextmanager
def unscaled(model: Any) -> Iterator[None]:
    """Within the block no weight of a RWKV is divided in place, as it is for half precision."""
    core = getattr(model, "rwkv", None)
    if core is None or core.layers_are_rescaled:
        yield
        return
    every, core.config.rescale_every, core.layers_are_rescaled = core.config.rescale_every, 0, True
    try:
        yield
    finally:
        core.config.rescale_every, core.layers_are_rescaled = every, False
