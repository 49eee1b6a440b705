"""The functions of an artifact: parts of the model for so many tokens.

decode     one token: its logits and the states after it
prefill    a chunk of tokens: the states after it, and for each token the hidden state from which
           on tokens are computed alone (``ladder.ir.row_wise``)
short      the same for a few tokens, where a chunk cannot be padded
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
from ladder.ir.states import CONTEXT, RECURRENT
from ladder.options.requests import CompileOptions
from ladder.runtime.manifest import ALL, DECODE, HIDDEN, LAST, PREFILL, SHORT

SHORT_TOKENS = 8  # what is left of a text after whole chunks is taken by so many, then one by one


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
    several = [(PREFILL, chunk)]
    if options.chunk > SHORT_TOKENS and any(s.kind == RECURRENT for s in source.states):
        several.append((SHORT, f"{TOKENS}:{SHORT_TOKENS}"))
    for name, dims in several:
        yield name, facts.clone(model) if hidden is None else _up_to(model, hidden), dims + rows
    if hidden is None:
        return
    for name, dims in ((LAST, one), (ALL, chunk)):
        yield name, _after(model, hidden), dims


def _rows(source: Source, options: CompileOptions) -> str:
    """The size of states that have a row for each token; other states need none."""
    if not any(CONTEXT in state.shape for state in source.states):
        return ""
    return f"/{CONTEXT}:{options.context + options.chunk}"  # a padded chunk never reaches past it


def _by_tensor(options: CompileOptions) -> bool:
    """Whether all tokens share a scale, so that none is computed alone."""
    mode = QUANTIZED.get(options.mode)
    return mode is not None and mode.granularity == TENSOR


def _up_to(model: ir.Model, hidden: ir.Value) -> ir.Model:
    """A copy that returns the value ``hidden`` in place of the logits."""
    copy = facts.clone(model)
    copy.graph.outputs[0] = _value(copy, hidden)
    RemoveUnusedNodesPass()(copy)
    return copy


def _after(model: ir.Model, hidden: ir.Value) -> ir.Model:
    """A copy that computes the logits of the value ``hidden``, its only input."""
    copy = facts.clone(model)
    value = _value(copy, hidden)
    given = ir.Value(name=HIDDEN, type=value.type, shape=value.shape)
    ir.convenience.replace_all_uses_with(value, given)
    del copy.graph.outputs[1:]
    RemoveUnusedNodesPass()(copy)
    copy.graph.inputs[:] = [given]
    return copy


def _value(copy: ir.Model, value: ir.Value) -> ir.Value:
    """The value of the same name in a copy."""
    return next(v for node in copy.graph for v in node.outputs if v.name == value.name)
