"""The functions of an artifact: parts of the model for so many tokens.

decode     one token: its logits and the states after it
prefill    a chunk of tokens: the states after it, and for each token the hidden state from which
           on tokens are computed alone (``ladder.ir.row_wise``)
last, all  the logits of one such hidden state, and of a chunk of them
main       the whole of any other model
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ladder.frontend.types import TOKENS, Source
from ladder.ir import facts
from ladder.ir.activation import QUANTIZED, TENSOR
from ladder.ir.row_wise import first_alone
from ladder.ir.states import CONTEXT
from ladder.options.requests import CompileOptions
from ladder.runtime.manifest import ALL, DECODE, HIDDEN, LAST, PREFILL


def functions_of(
    model: ir.Model, source: Source, options: CompileOptions
) -> Iterator[tuple[str, ir.Model, str]]:
    """(function name, a copy of what it computes, the sizes of its open dimensions)."""
    if not source.is_language_model:
        yield "main", facts.clone(model), options.dims_text
        return
    one, chunk, rows = f"{TOKENS}:1", f"{TOKENS}:{options.chunk}", _rows(source, options)
    yield DECODE, facts.clone(model), one + rows
    hidden = None if _by_tensor(options) else first_alone(model, TOKENS)
    if hidden is None:
        yield PREFILL, facts.clone(model), chunk + rows
        return
    assert hidden.name
    yield PREFILL, _up_to(model, hidden.name), chunk + rows
    for name, dims in ((LAST, one), (ALL, chunk)):
        yield name, _after(model, hidden.name), dims


def _rows(source: Source, options: CompileOptions) -> str:
    """The size of states that have a row for each token; other states need none."""
    if not any(CONTEXT in state.shape for state in source.states):
        return ""
    return f"/{CONTEXT}:{options.context + options.chunk}"  # a padded chunk never reaches past it


def _by_tensor(options: CompileOptions) -> bool:
    """Whether all tokens share a scale, so that none is computed alone."""
    mode = QUANTIZED.get(options.mode)
    return mode is not None and mode.granularity == TENSOR


def _up_to(model: ir.Model, name: str) -> ir.Model:
    """A copy that returns the value ``name`` in place of the logits."""
    copy = facts.clone(model)
    copy.graph.outputs[0] = _value(copy, name)
    RemoveUnusedNodesPass()(copy)
    return copy


def _after(model: ir.Model, name: str) -> ir.Model:
    """A copy that computes the logits of the value ``name``, its only input."""
    copy = facts.clone(model)
    value = _value(copy, name)
    hidden = ir.Value(name=HIDDEN, type=value.type, shape=value.shape)
    ir.convenience.replace_all_uses_with(value, hidden)
    del copy.graph.outputs[1:]
    RemoveUnusedNodesPass()(copy)
    copy.graph.inputs[:] = [hidden]
    return copy


def _value(model: ir.Model, name: str) -> ir.Value:
    return next(v for node in model.graph for v in node.outputs if v.name == name)
