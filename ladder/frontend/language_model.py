"""A causal language model of transformers as a graph: tokens and states in, logits and states out.

The cache becomes named states of a fixed length that the graph updates in place
(``TensorScatter``), and attention stays one operator (ONNX ``Attention``), so that grouped-query
heads are never expanded. One trace with dynamic ``tokens`` serves prefill and decode.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir

from ladder.frontend.attention import ATTENTION, register
from ladder.frontend.model_states import key_indices
from ladder.frontend.positions import fixed_frequencies
from ladder.frontend.replacements import replaced
from ladder.frontend.torch_module import trace
from ladder.frontend.types import TOKENS
from ladder.ir.shapes import rename_dims
from ladder.ir.states import CONTEXT, StateSpec

EXAMPLE_ROWS = 16  # of the states that a model is traced with
# Without one, transformers groups tokens by expert with operators that ONNX has not.
EXPERTS = "batched_mm"
NEED_MASK = ("BioGptForCausalLM",)  # else they make one of the tokens so far
PLAIN = ("eager", "eager")
IMPLEMENTATIONS = ("_attn_implementation", "_experts_implementation")


def trace_language_model(model: Any, specs: Sequence[StateSpec]) -> ir.Model:
    """Trace a transformers causal language model into the IR, states named, dims symbolic."""
    import torch

    states = [torch.from_numpy(spec.initial(EXAMPLE_ROWS)) for spec in specs]
    tokens, context = torch.export.Dim(TOKENS, min=2), torch.export.Dim(CONTEXT, min=8)
    register()
    chosen = implementations(model, _attention_of(model), EXPERTS)
    with chosen, replaced(model), fixed_frequencies(model):
        traced = trace(
            _step_module(model, key_indices(specs)),
            (torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, dtype=torch.long), states),
            dynamic_shapes={
                "input_ids": {1: tokens},
                "position": None,
                "states": [{spec.axis: context} for spec in specs],
            },
            input_names=["input_ids", "position", *(spec.name for spec in specs)],
            output_names=["logits", *(spec.next for spec in specs)],
        )
    _name_dims(traced)
    return traced


def _attention_of(model: Any) -> str:
    """Ours where the model lets attention be chosen, else its own, in plain operators."""
    module = sys.modules[type(model).__module__]
    return ATTENTION if hasattr(module, "ALL_ATTENTION_FUNCTIONS") else PLAIN[0]


@contextmanager
def implementations(model: Any, *names: str) -> Iterator[None]:
    """Choose how the model computes attention and experts, as it was before afterwards."""
    before = [getattr(model.config, field, None) for field in IMPLEMENTATIONS]
    _choose(model.config, names)
    try:
        yield
    finally:
        _choose(model.config, before)


def _choose(config: Any, names: Sequence[Any]) -> None:
    for field, name in zip(IMPLEMENTATIONS, names, strict=True):
        setattr(config, field, name)


def _step_module(model: Any, keys: dict[int, int]) -> Any:
    import torch
    from torch.onnx.ops import symbolic
    from transformers.cache_utils import Cache

    class States(Cache):  # type: ignore[misc, valid-type, unused-ignore]
        """The states as transformers' cache of fixed length: update writes new rows in place."""

        is_sliding = is_linear = is_dummy = ()  # all layers are alike
        is_compileable = True

        def __init__(self, tensors: list[Any], start: Any) -> None:
            self.tensors, self.start = list(tensors), start
            self.layers: list[Any] = []

        def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
            index = keys[layer]
            self._write(index, key)
            self._write(index + 1, value)
            return self.tensors[index], self.tensors[index + 1]

        def _write(self, index: int, rows: Any) -> None:
            old = self.tensors[index]
            self.tensors[index] = symbolic(
                "TensorScatter",
                [old, rows, self.start],
                {"axis": 2},
                dtype=old.dtype,
                shape=old.shape,
                version=24,
            )

        def get_seq_length(self, *_: Any, **__: Any) -> Any:
            return self.start

        def get_mask_sizes(self, *_: Any, **__: Any) -> tuple[Any, int]:
            return self.tensors[0].shape[2], 0

    takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(
            self, input_ids: Any, position: Any, states: list[Any]
        ) -> tuple[Any, list[Any]]:
            places = (position + torch.arange(input_ids.shape[1]))[None]
            options = {"position_ids": places} if takes_positions else {}
            if type(model).__name__ in NEED_MASK:
                options["attention_mask"] = torch.ones(1, states[0].shape[2])
            cache = States(states, position)
            out = self.inner(input_ids=input_ids, past_key_values=cache, use_cache=True, **options)
            return out.logits, cache.tensors

    return Step()


def _name_dims(model: ir.Model) -> None:
    """Give the exporter's s17, s70 their meaning, and weights their names in the model."""
    first = model.graph.inputs[0].shape
    state = model.graph.inputs[2].shape
    assert first is not None and state is not None
    rename_dims(model, {str(first[1]): TOKENS, str(state[2]): CONTEXT})
    for value in list(model.graph.initializers.values()):
        if value.name and value.name.startswith("inner."):
            value.name = value.name.removeprefix("inner.")
    for node in model.graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        if scopes:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes.replace("'inner.", "'")
