"""The torch model of a checkpoint: without its weights, which are read later, or with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ladder.errors import LadderError, one_line
from ladder.frontend.checkpoint import (
    check_unused,
    fill_buffers,
    match,
    of_parameters,
    without_memory,
)
from ladder.frontend.expert_tensors import check_experts
from ladder.frontend.packed.stored import Stored

EAGER = {"attn_implementation": "eager"}  # the simplest form; a trace chooses another
WHOLE = (
    "not every weight of the model is a tensor of its own name in safetensors or GGUF: the "
    "checkpoint was read as a whole, 4 bytes a weight of memory"
)


@dataclass(frozen=True)
class Opened:
    """A torch model, and where its weights are; if that is empty, they are in the model."""

    model: Any
    stored: Stored
    notes: list[str] = field(default_factory=list)


def open_model(config: Any, stored: Callable[[Any], Stored], trust: bool = False) -> Opened:
    """The model of ``config`` with the weights that ``stored`` finds for it.

    ``trust`` allows to run Python code of the model's folder.
    Refuses, by name, a checkpoint that lacks a tensor of the model or has others for it.
    """
    model = empty_model(config, trust)
    tensors = stored(model)
    found = match(model, tensors)
    if found.missing:  # under other names, if at all
        return _read_whole(model, tensors)
    notes = check_unused(model, found.unused)
    fill_buffers(model, found.tensors)
    without_memory(model)
    return Opened(model, of_parameters(model, found.tensors), notes)


def check_decoder(config: Any) -> None:
    """Refuse an encoder-decoder, which transformers would take for a decoder alone."""
    if config.is_encoder_decoder:
        raise LadderError(
            f"{config.model_type} is an encoder-decoder, no causal language "
            "model; load its parts as torch modules with ladder.load(module, example_inputs)"
        )


def empty_model(config: Any, trust: bool = False) -> Any:
    """A causal language model whose parameters have no memory."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=trust, **EAGER
        )
    model.tie_weights()
    return model


def _read_whole(empty: Any, stored: Stored) -> Opened:
    """Let transformers find the tensors under the names that it knows, and hold all in memory."""
    import torch

    check_experts(stored)
    values = {
        name: torch.from_numpy(tensor.read())
        for name, tensor in stored.items()
        if not tensor.problem
    }
    config = empty.config
    for holder in (config, config.get_text_config()):
        holder.__dict__.pop("quantization_config", None)  # the values are floats now
    try:
        model, found = type(empty).from_pretrained(
            None,
            config=config,
            state_dict=values,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **EAGER,
        )
    except LadderError:
        raise
    except Exception as error:
        raise LadderError(f"transformers cannot load it: {one_line(error)}") from error
    return Opened(model, {}, [WHOLE, *_checked(model, found, stored)])


def _checked(model: Any, found: dict[str, Any], stored: Stored) -> list[str]:
    """Refuse a tensor that transformers did not find, or with another shape; notes of others."""
    for name, there, wanted in sorted(found["mismatched_keys"]):
        raise LadderError(
            f"{name}: stored with shape {list(there)}, and the configuration wants "
            f"{list(wanted)}; config.json does not belong to these weights"
        )
    missing = sorted(found["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LadderError(
            f"the checkpoint has no tensor for {missing[0]}{more}; fetch the missing files"
        )
    bad = [name for name in found["unexpected_keys"] if name in stored]
    return check_unused(model, sorted(bad))
