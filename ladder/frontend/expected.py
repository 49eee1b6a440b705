"""What torch computes: the logits of a short text, to compare a trace with.

The text crosses the end of the smallest attention window that the model declares. Where that is
far away, the rows before the text are random: they take neither time nor tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ladder.frontend.language_model import implementations, plain
from ladder.frontend.model_states import layers_with_rows
from ladder.frontend.packed.stored import Stored
from ladder.frontend.positions import longest_text
from ladder.frontend.types import Expected
from ladder.ir.states import RECURRENT, ROWS, StateSpec

TEXT = 48  # tokens
WINDOW_FIELDS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention")


def expected_logits(model: Any, states: Sequence[StateSpec], stored: Stored) -> Expected:
    """Run ``model`` with weights ``stored`` and attention in its simplest form, in float32."""
    import torch

    config, rng = model.config.get_text_config(), np.random.default_rng(0)
    start, length = _place(config)
    tokens = rng.integers(0, config.vocab_size, length)
    growing = [state for state in states if state.kind == ROWS and start]
    rows = {s.name: rng.standard_normal(s.bound(start), np.float32) for s in growing}
    cache = {"past_key_values": _cache(config, states, list(rows.values()))} if rows else {}
    with _weights(model, stored), implementations(model, *plain(model)), torch.no_grad():
        out = model(input_ids=torch.from_numpy(tokens)[None], use_cache=bool(rows), **cache)
    return Expected(type(model).__name__, tokens.tolist(), start, rows, out.logits[0].numpy())


def _place(config: Any) -> tuple[int, int]:
    """Where the text starts, half of it before the end of the smallest window; its tokens."""
    declared = (getattr(config, name, None) for name in WINDOW_FIELDS)
    windows = [size for size in declared if isinstance(size, int) and size > 0]
    most = longest_text(config) or getattr(config, "max_position_embeddings", None) or sys.maxsize
    start = min(min(windows, default=0) - TEXT // 2, most - TEXT)
    return max(0, start), min(TEXT, most)


def _cache(config: Any, states: Sequence[StateSpec], rows: list[np.ndarray]) -> Any:
    """Keys and values of all layers as transformers' cache.

    No layer forgets rows by itself, unless some layers have a recurrent state, which is empty.
    """
    import torch
    from transformers import DynamicCache

    mixed = any(state.kind == RECURRENT for state in states)
    cache, layers = DynamicCache(config=config if mixed else None), layers_with_rows(states)
    for layer, (key, value) in zip(layers, zip(rows[::2], rows[1::2], strict=True), strict=True):
        cache.update(torch.from_numpy(key), torch.from_numpy(value), layer)
    return cache


@contextmanager
def _weights(model: Any, stored: Stored) -> Iterator[None]:
    """Each block has its weights while it runs, what is outside of blocks all the time."""
    if not stored:
        yield
        return
    names = {id(module): name for name, module in model.named_modules()}
    blocks = list(_blocks(model))
    inside = {id(p) for block in blocks for p in block.parameters()}
    outside = [(n, p) for n, p in model.named_parameters() if id(p) not in inside]
    hooks = [h for b in blocks for h in _hooks(b, f"{names[id(b)]}.", stored)]
    empty = _fill(outside, stored)
    try:
        yield
    finally:
        _put_back(empty)
        for hook in hooks:
            hook.remove()


def _blocks(module: Any) -> Iterator[Any]:
    """The members of the outermost lists of modules."""
    from torch.nn import ModuleList

    for child in module.children():
        yield from child if isinstance(child, ModuleList) else _blocks(child)


def _hooks(block: Any, prefix: str, stored: Stored) -> tuple[Any, Any]:
    empty: list[tuple[Any, Any]] = []

    def before(*_: Any) -> None:
        parameters = [(prefix + name, p) for name, p in block.named_parameters()]
        empty.extend(_fill(parameters, stored))

    def after(*_: Any) -> None:
        _put_back(empty)
        empty.clear()

    return block.register_forward_pre_hook(before), block.register_forward_hook(after)


def _fill(parameters: list[tuple[str, Any]], stored: Stored) -> list[tuple[Any, Any]]:
    """Give parameters their values; returns what they had."""
    import torch

    empty = [(parameter, parameter.data) for _, parameter in parameters]
    for name, parameter in parameters:
        parameter.data = torch.from_numpy(stored[name].read())
    return empty


def _put_back(empty: list[tuple[Any, Any]]) -> None:
    for parameter, data in empty:
        parameter.data = data
