"""Which states a transformers model has: what its own cache holds after two tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ladder.errors import LadderError, one_line
from ladder.ir.states import CONTEXT, ROWS, STATE_PREFIX, StateSpec

RECURRENT = ("cache_params", "state")  # where models without attention return what they keep
PARTS = ("key", "value")
TOKENS = 2


def find_states(model: Any) -> tuple[StateSpec, ...]:
    """Keys and values of every layer, in the layers' order; some layers share those of others."""
    cache = _cache_after_a_run(model)
    layers = getattr(cache, "layers", None)
    if layers is None:
        raise _refused(model, f"its state is recurrent ({type(cache).__name__})")
    return tuple(
        spec
        for number, layer in enumerate(layers)
        if not cache.is_dummy[number]
        for spec in _states_of(model, number, layer)
    )


def _cache_after_a_run(model: Any) -> Any:
    import torch

    ids = torch.zeros(1, TOKENS, dtype=torch.long)
    try:
        with torch.no_grad():
            out = model(input_ids=ids, use_cache=True)
    except Exception as error:
        raise _refused(model, f"two tokens fail with {one_line(error)}") from error
    names = ("past_key_values", *RECURRENT)
    return next((out[name] for name in names if out.get(name) is not None), None)


def key_indices(specs: Sequence[StateSpec]) -> dict[int, int]:
    """Number of a layer that has states -> which of them is its key; the value is the next."""
    numbers = [int(spec.name.removeprefix(STATE_PREFIX).partition(".")[0]) for spec in specs]
    return {number: 2 * index for index, number in enumerate(numbers[::2])}


def _states_of(model: Any, number: int, layer: Any) -> list[StateSpec]:
    tensors: dict[str, Any] = {part: getattr(layer, f"{part}s", None) for part in PARTS}
    if hasattr(layer, "conv_states") or hasattr(layer, "recurrent_states"):
        raise _refused(model, f"layer {number} keeps a recurrent state ({type(layer).__name__})")
    if any(t is None or t.ndim != 4 or t.shape[2] != TOKENS for t in tensors.values()):
        raise _refused(model, f"layer {number} keeps no keys and values ({type(layer).__name__})")
    return [
        StateSpec(
            f"{STATE_PREFIX}{number}.{part}",
            (1, tensor.shape[1], CONTEXT, tensor.shape[3]),
            "float32",
            ROWS,
            2,
        )
        for part, tensor in tensors.items()
    ]


def _refused(model: Any, reason: str) -> LadderError:
    return LadderError(
        f"{type(model).__name__} is not supported: {reason}, and only keys and values can be kept "
        "from call to call; ladder.load(module, example_inputs) takes it for texts of fixed length"
    )
