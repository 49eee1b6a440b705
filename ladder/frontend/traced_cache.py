"""The cache that a traced model is given: transformers' interface to what ``Carried`` holds."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from ladder.errors import LadderError
from ladder.frontend.carried import Convolution, now


class NotCarried(LadderError, AttributeError):
    """A model asks its cache for something that is not carried from call to call."""


class TracedCache(Cache):  # type: ignore[misc, valid-type, unused-ignore]
    """Keys and values are rows that a call writes in place; convolutions and scans have states."""

    is_sliding = is_linear = is_dummy = ()  # all layers are alike
    is_compileable = True

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        raise NotCarried(f"it asks its cache for '{name}'")

    def update(
        self, key: Any, value: Any, layer: int, *more: Any, **keywords: Any
    ) -> tuple[Any, Any]:
        """Write rows; returns all rows of both."""
        unknown = [*keywords, *(type(argument).__name__ for argument in more)]
        if unknown:
            raise LadderError(
                f"layer {layer} updates its keys and values with '{unknown[0]}', which the IR "
                "cannot express; this model is not supported"
            )
        carried = now()
        return carried.write_rows(f"{layer}.key", key), carried.write_rows(f"{layer}.value", value)

    def get_seq_length(self, layer_idx: int = 0) -> Any:
        return now().position

    def get_mask_sizes(self, query_length: Any, layer_idx: int) -> tuple[Any, int]:
        return now().context, 0

    def is_recording_past(self, layer: int) -> bool:
        return False

    def has_previous_state(self, layer: int | None = None, index: int | None = None) -> bool:
        """States are always given: before the first token, they have their reset values."""
        return True

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Any | None:
        return now().get(_name(layer_idx, "conv", state_idx))

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Any | None:
        carried, name = now(), _name(layer_idx, "recurrent", state_idx)
        carried.scan, carried.scanned = name, 0
        return carried.get(name)

    def update_conv_state(
        self,
        conv_states: Any,
        layer_idx: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
    ) -> Any:
        """The inputs [1, C, S] of a convolution, after those before them.

        Without a size, they are the state itself.
        """
        carried, name = now(), _name(layer_idx, "conv", state_idx)
        if conv_kernel_size is None:
            carried.put(name, conv_states)
            return conv_states
        before = carried.recurrent(name, (1, conv_states.shape[1], conv_kernel_size - 1))
        inputs = torch.cat([before, conv_states], dim=-1)
        carried.put(name, inputs[:, :, 1 - conv_kernel_size :])
        carried.convolution = Convolution(name, before, conv_states, inputs)
        return inputs

    def update_recurrent_state(
        self, recurrent_states: Any, layer_idx: int, state_idx: int = 0
    ) -> Any:
        now().put(_name(layer_idx, "recurrent", state_idx), recurrent_states)
        return recurrent_states


def _name(layer: int, part: str, index: int) -> str:
    return f"{layer}.{part}{index or ''}"
