"""Keys and values in fewer bits: what a language model carries along is stored rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.states import CONTEXT, WINDOW, StateSpec, next_name
from ladder.passes.infra.base import Pass
from ladder.passes.infra.maker import Maker
from ladder.passes.infra.rows import write_of

FP32, FP16, INT8 = "fp32", "fp16", "int8"
KV_TYPES = {
    FP32: "as they are computed",
    FP16: "rounded to 16 bits",
    INT8: "codes of 8 bits with a scale for each head and row",
}
LEVELS, SMALLEST = 127.0, 2.0**-100  # codes from -127 to 127; a smaller scale would be denormal
SCALE = ".scale"


@dataclass(frozen=True)
class StoreStates(Pass):
    """Store the rows that Attention reads as ``type``; others stay as they are.

    fp16:  %next = TensorScatter(%state, %rows)       -->  TensorScatter(%state, Cast(%rows))
           Attention(%q, %next, ...)                       Attention(%q, Cast(%next), ...)
    int8:  the codes round(%rows / %scale) are stored in %state, and %scale, the largest of a row
           and head / 127, in the new state %state.scale; Attention reads their product
    """

    type: str

    def run(self, model: ir.Model) -> None:
        check(self.type)
        if self.type == FP32:
            return
        for state in list(model.graph.inputs):
            write = write_of(state)
            if write is not None:
                (_to_fp16 if self.type == FP16 else _to_int8)(model.graph, state, write)


def check(type: str) -> None:
    """Refuse an unknown type of keys and values."""
    if type not in KV_TYPES:
        raise LadderError(f"keys and values have no type '{type}'; one of: {', '.join(KV_TYPES)}")


def stored_states(
    model: ir.Model, specs: Sequence[StateSpec], spare: int = 0
) -> tuple[StateSpec, ...]:
    """The states of ``model`` after roll-windows and this pass; ``specs`` are those before."""
    inputs = {value.name: value for value in model.graph.inputs}
    return tuple(new for spec in specs for new in _stored(spec, inputs, spare))


def _stored(
    spec: StateSpec, inputs: Mapping[str | None, ir.Value], spare: int
) -> Iterator[StateSpec]:
    dtype, shape = inputs[spec.name].dtype, inputs[spec.name].shape
    assert dtype is not None and shape is not None
    new = replace(spec, dtype=str(dtype.numpy()))
    if CONTEXT in spec.shape and isinstance(shape[spec.shape.index(CONTEXT)], int):
        sizes = tuple(int(size) for size in shape if isinstance(size, int))
        new = replace(new, shape=sizes, kind=WINDOW, spare=spare)
    yield new
    if spec.name + SCALE in inputs:
        one = (*new.shape[:-1], 1)
        yield replace(new, name=spec.name + SCALE, shape=one, dtype="float32")


def _to_fp16(graph: ir.Graph, state: ir.Value, write: ir.Node) -> None:
    rows, after = write.inputs[1], write.outputs[0]
    assert rows is not None
    before, later = Maker(graph, f"{state.name}.rows"), Maker(graph, f"{state.name}.read")
    write.replace_input_with(1, before.cast(rows, ir.DataType.FLOAT16))
    state.type = after.type = ir.TensorType(ir.DataType.FLOAT16)
    _read_from(after, later.cast(after, ir.DataType.FLOAT), later)
    graph.insert_before(write, before.nodes)
    graph.insert_after(write, later.nodes)


def _to_int8(graph: ir.Graph, state: ir.Value, write: ir.Node) -> None:
    rows, after = write.inputs[1], write.outputs[0]
    assert rows is not None and rows.shape is not None and state.shape is not None
    before, later = Maker(graph, f"{state.name}.rows"), Maker(graph, f"{state.name}.read")
    codes, scale = _rounded(before, rows)
    write.replace_input_with(1, codes)
    state.type = after.type = ir.TensorType(ir.DataType.INT8)
    scales = _new_state(graph, f"{state.name}{SCALE}", ir.Shape([*state.shape[:-1], 1]))
    attributes = {name: a.value for name, a in write.attributes.items()}
    place = [value for value in write.inputs[2:] if value is not None]
    new = later.make(
        "TensorScatter", [scales, scale, *place], ir.DataType.FLOAT, scales.shape, attributes
    )
    new.name = next_name(scales.name or "")
    graph.outputs.append(new)
    values = later.cast(after, ir.DataType.FLOAT)
    product = later.make("Mul", [values, new], ir.DataType.FLOAT, after.shape)
    _read_from(after, product, later)
    graph.insert_before(write, before.nodes)
    graph.insert_after(write, later.nodes)


def _rounded(make: Maker, rows: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Codes int8 like ``rows``, and the scale of each head and row."""
    assert rows.shape is not None
    real, one = ir.DataType.FLOAT, ir.Shape([*rows.shape[:-1], 1])
    last = make.constant("last", np.array([-1], np.int64))
    levels, least = (
        make.constant(name, np.array(value, np.float32))
        for name, value in (("levels", LEVELS), ("least", SMALLEST))
    )
    size = make.make("Abs", [rows], real, rows.shape)
    peak = make.make("ReduceMax", [size, last], real, one, {"keepdims": 1})
    step = make.make("Div", [peak, levels], real, one)
    scale = make.make("Max", [step, least], real, one)
    exact = make.make("Div", [rows, scale], real, rows.shape)
    whole = make.make("Round", [exact], real, rows.shape)
    return make.cast(whole, ir.DataType.INT8), scale


def _new_state(graph: ir.Graph, name: str, shape: ir.Shape) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    graph.inputs.append(value)
    return value


def _read_from(after: ir.Value, values: ir.Value, make: Maker) -> None:
    """Let Attention read ``values`` in place of the stored rows."""
    own = set(make.nodes)
    for node, place in [(use.node, use.idx) for use in after.uses()]:
        if node not in own:
            node.replace_input_with(place, values)
