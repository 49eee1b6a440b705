"""The result of a frontend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.ir.codes import Codes
from ladder.ir.shapes import static_shape
from ladder.ir.states import (
    RECURRENT,
    RESET_KEY,
    ROWS,
    STATE_PREFIX,
    WINDOW,
    StateSpec,
    next_name,
)

TOKENS = "tokens"


@dataclass(frozen=True)
class Expected:
    """What a language model named ``name`` computes for ``tokens``, to compare its trace with.

    They begin at position ``start``; ``rows`` are those of each state before it.
    """

    name: str
    tokens: list[int]
    start: int
    rows: dict[str, np.ndarray]
    logits: np.ndarray


@dataclass
class Source:
    """A model in the IR, with a language model's tokenizer and states.

    A causal language model has inputs ``input_ids`` [1, tokens], ``position`` [1] (where the
    tokens start) and ``states``, and outputs ``logits`` and each state's ``next``.
    """

    model: ir.Model
    origin: str
    digest: str
    tokenizer: str | None = None
    eos: tuple[int, ...] = ()
    chat_template: str | None = None
    special_tokens: dict[str, str] = field(default_factory=dict)  # name in templates -> text
    sampling: dict[str, float] = field(default_factory=dict)  # what the model's authors advise
    notes: list[str] = field(default_factory=list)
    states: tuple[StateSpec, ...] = ()
    longest: int | None = None  # tokens of a text, where the model computes others differently
    expected: Expected | None = None
    # Weights that the checkpoint stores in a type of Ladder: how to read their codes, and, once
    # these are in files of a trace, each one's type and file.
    codes: Mapping[str, Callable[[], Codes]] = field(default_factory=dict)
    code_files: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_language_model(self) -> bool:
        """Whether it has exactly these inputs: nothing would feed another one."""
        states = (state.name for state in self.states)
        return {v.name for v in self.model.graph.inputs} == {"input_ids", "position", *states}

    @property
    def vocabulary(self) -> int:
        """Size of a language model's vocabulary, the last axis of the logits."""
        shape = self.model.graph.outputs[0].shape
        assert shape is not None and isinstance(shape[-1], int)
        return shape[-1]

    def to_json(self) -> dict[str, Any]:
        """Everything but the model, its codes and what it was checked with, for a file."""
        left_out = ("model", "expected", "codes")
        rest = {name: value for name, value in vars(self).items() if name not in left_out}
        return {**rest, "states": [state.to_json() for state in self.states]}

    @staticmethod
    def from_json(model: ir.Model, rest: dict[str, Any]) -> Source:
        states = tuple(map(StateSpec.from_json, rest["states"]))
        return Source(model, **{**rest, "eos": tuple(rest["eos"]), "states": states})


def states_of(model: ir.Model) -> tuple[StateSpec, ...]:
    """The states of a graph that follows the naming convention."""
    outputs = {value.name: value for value in model.graph.outputs}
    pairs = ((value, outputs.get(next_name(value.name or ""))) for value in model.graph.inputs)
    found = (
        _state_of(before, after)
        for before, after in pairs
        if after is not None and (before.name or "").startswith(STATE_PREFIX)
    )
    return tuple(state for state in found if state is not None)


def _state_of(before: ir.Value, after: ir.Value) -> StateSpec | None:
    """A state; its kind depends on whether the graph scatters rows into the input or replaces it.

    None where the output has another size than the input, such as a cache that grows.
    """
    if before.name is None or before.shape is None or before.dtype is None:
        return None
    shape = tuple(size if isinstance(size, int) else str(size) for size in before.shape)
    name, dtype = before.name, str(before.dtype.numpy())
    scatter = after.producer()
    if scatter is not None and scatter.op_type == "TensorScatter" and scatter.inputs[0] is before:
        axis = scatter.attributes.get_int("axis", -2) % len(shape)
        wraps = scatter.attributes.get_string("mode", "linear") == "circular"
        return StateSpec(name, shape, dtype, WINDOW if wraps else ROWS, axis)
    if static_shape(before) is None:
        return None
    reset = json.loads(before.metadata_props.get(RESET_KEY, "0"))
    values = tuple(map(float, reset)) if isinstance(reset, list) else float(reset)
    return StateSpec(name, shape, dtype, RECURRENT, reset=values)
