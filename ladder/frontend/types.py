"""What a frontend returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

STATE_PREFIX = "state."
NEXT_SUFFIX = ".next"
TOKENS, CONTEXT = "tokens", "context"


@dataclass
class Source:
    """A model in the IR, with what a language model needs beside its graph.

    A causal language model has inputs ``input_ids`` [1, tokens], ``position`` [1] (where the
    tokens start) and named states, and outputs ``logits`` and each state's ``NAME.next``.
    """

    model: ir.Model
    origin: str
    digest: str
    tokenizer: str | None = None
    eos: tuple[int, ...] = ()
    chat_template: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_language_model(self) -> bool:
        names = {v.name for v in self.model.graph.inputs}
        return {"input_ids", "position"} <= names

    @property
    def vocabulary(self) -> int:
        """Size of a language model's vocabulary: the logits' last axis."""
        shape = self.model.graph.outputs[0].shape
        assert shape is not None and isinstance(shape[-1], int)
        return shape[-1]


def state_pairs(model: ir.Model) -> dict[str, str]:
    """State input name -> output name, by the naming convention."""
    outputs = {v.name for v in model.graph.outputs}
    pairs = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if name.startswith(STATE_PREFIX) and name + NEXT_SUFFIX in outputs:
            pairs[name] = name + NEXT_SUFFIX
    return pairs
