"""A causal language model of transformers as a graph: tokens and states in, logits and states out.

What the model carries from call to call becomes named states. Keys and values have a fixed number
of rows that the graph writes in place (``TensorScatter``), and attention stays one operator (ONNX
``Attention``), so that grouped-query heads are never expanded. Recurrent states go through the
operators of the dialect. One trace with dynamic ``tokens`` serves prefill and decode.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import onnx_ir as ir
import torch

from ladder.frontend.attention import ATTENTION, register
from ladder.frontend.carried import EXAMPLE_ROWS, OVERLOAD, Carried, carrying
from ladder.frontend.positions import fixed_frequencies
from ladder.frontend.replacements.apply import replaced
from ladder.frontend.torch_module import trace
from ladder.frontend.traced_cache import TracedCache
from ladder.frontend.types import TOKENS
from ladder.ir import dialect
from ladder.ir.shapes import rename_dims
from ladder.ir.states import CONTEXT, RESET_KEY, ROWS, STATE_PREFIX, StateSpec

# Without one, transformers groups tokens by expert with operators that ONNX has not.
EXPERTS = "batched_mm"
NEED_MASK = ("BioGptForCausalLM", "FalconForCausalLM")  # else they make one of the tokens so far
CACHES = ("past_key_values", "cache_params")
EAGER = "eager"
TWICE_BIASED = ("FalconForCausalLM",)  # the eager form adds a position bias twice
IMPLEMENTATIONS = ("_attn_implementation", "_experts_implementation")


def trace_language_model(model: Any, specs: Sequence[StateSpec]) -> ir.Model:
    """Trace a transformers causal language model into the IR, states named, dims symbolic."""
    states = [torch.from_numpy(spec.initial(EXAMPLE_ROWS)) for spec in specs]
    tokens, context = torch.export.Dim(TOKENS, min=2), torch.export.Dim(CONTEXT, min=8)
    with as_traced(model):
        traced = trace(
            Step(model, specs),
            (torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, dtype=torch.long), states),
            dynamic_shapes={
                "input_ids": {1: tokens},
                "position": None,
                "states": [{spec.axis: context} if spec.kind == ROWS else {} for spec in specs],
            },
            input_names=["input_ids", "position", *(spec.name for spec in specs)],
            output_names=["logits", *(spec.next for spec in specs)],
        )
    _name_dims(traced, specs)
    _note_resets(traced, specs)
    _name_weights(traced)
    _install_operators(traced)
    return traced


@contextmanager
def as_traced(model: Any) -> Iterator[None]:
    """Within the block the model is made of what the IR can express."""
    register()
    with ExitStack() as stack:
        stack.enter_context(implementations(model, _attention_of(model), EXPERTS))
        stack.enter_context(replaced(model))
        stack.enter_context(fixed_frequencies(model))
        yield


def _attention_of(model: Any) -> str:
    """Ours where the model lets attention be chosen, else its own, in plain operators."""
    module = sys.modules[type(model).__module__]
    return ATTENTION if hasattr(module, "ALL_ATTENTION_FUNCTIONS") else plain(model)[0]


def plain(model: Any) -> tuple[str, str]:
    """The simplest implementations of attention and experts, to compare a trace with."""
    twice = type(model).__name__ in TWICE_BIASED and model.config.alibi
    return "sdpa" if twice else EAGER, EAGER


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


class Step(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """One call of a model: tokens, their position and states in, logits and states out."""

    def __init__(self, model: Any, specs: Sequence[StateSpec]) -> None:
        super().__init__()
        self.inner = model
        self._specs = specs
        self._names = [spec.name.removeprefix(STATE_PREFIX) for spec in specs]

    def forward(self, input_ids: Any, position: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        given = dict(zip(self._names, states, strict=True))
        carried = Carried(self.inner, position, given, self._specs)
        logits = self.run(input_ids, carried)
        return logits, [carried.tensors[name] for name in self._names]

    def run(self, input_ids: Any, carried: Carried) -> Any:
        """The logits; ``carried`` holds the states afterwards."""
        with carrying(carried):
            return self.inner(input_ids=input_ids, **self._options(input_ids, carried)).logits

    def _options(self, input_ids: Any, carried: Carried) -> dict[str, Any]:
        known = inspect.signature(self.inner.forward).parameters
        cache = next((name for name in CACHES if name in known), None)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            options[cache] = TracedCache()
        if "position_ids" in known:
            options["position_ids"] = (carried.position + torch.arange(input_ids.shape[1]))[None]
        if type(self.inner).__name__ in NEED_MASK:
            options["attention_mask"] = torch.ones(1, carried.context, dtype=torch.long)
        return options


def _name_dims(model: ir.Model, specs: Sequence[StateSpec]) -> None:
    """Give the exporter's s17, s70 their meaning."""
    names = {_dim(model.graph.inputs[0], 1): TOKENS}
    for spec, value in zip(specs, model.graph.inputs[2:], strict=True):
        if spec.axis is not None:
            names[_dim(value, spec.axis)] = CONTEXT
    rename_dims(model, names)


def _dim(value: ir.Value, axis: int) -> str:
    assert value.shape is not None
    return str(value.shape[axis])


def _note_resets(model: ir.Model, specs: Sequence[StateSpec]) -> None:
    """So that the graph alone says what its states are."""
    for spec, value in zip(specs, model.graph.inputs[2:], strict=True):
        if spec.reset:
            value.metadata_props[RESET_KEY] = json.dumps(spec.reset)


def _name_weights(model: ir.Model) -> None:
    """Give weights their names in the model."""
    for value in list(model.graph.initializers.values()):
        if value.name and value.name.startswith("inner."):
            value.name = value.name.removeprefix("inner.")
    for node in model.graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        if scopes:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes.replace("'inner.", "'")


def _install_operators(model: ir.Model) -> None:
    """Recurrent operators come with their overload as an attribute, which torch can express."""
    for node in model.graph:
        if node.domain == dialect.DOMAIN:
            node.overload = node.attributes.pop(OVERLOAD).as_string()
        if node.op_type == "CausalConvWithState":
            node.replace_input_with(1, _stored(node.inputs[1]))
    dialect.install(model)


def _stored(weight: ir.Value | None) -> ir.Value | None:
    """The weight [C, 1, k] itself, where a model takes its middle axis off and puts it on again."""
    value = weight
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type not in ("Squeeze", "Unsqueeze"):
            return weight
        value = producer.inputs[0]
    same = value is not None and weight is not None and value.shape == weight.shape
    return value if same else weight
