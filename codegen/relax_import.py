"""Translates the IR to Relax: ladder operators by our kernels, others by TVM's ONNX converters.

TVM's importer reads an ONNX graph, so the IR becomes a light ONNX graph without weights first.
Weights were packed before (``packing``) and become parameters of the Relax function. Dialect
operators are spelled ``ladder.OP[overload]``.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from ladder.codegen.context import Context, no_kernel
from ladder.codegen.converters import CONVERTERS
from ladder.codegen.fusion import addends_of, fuse
from ladder.codegen.indices import with_checked_indices
from ladder.codegen.known_operators import refuse_unknown
from ladder.codegen.packing import (
    CONSTANT_ELEMENTS,
    READERS,
    PackedGraph,
    Weights,
    mux_layout_of,
    outlier_channels,
    pack_graph,
    reader_of,
    weight_inputs,
)
from ladder.codegen.recurrence import IN_PLACE, changed_in_place
from ladder.errors import LadderError, one_line
from ladder.ir import dialect, mux_bodies
from ladder.ir.names import Names, label
from ladder.ir.recurrence import OPERATORS
from ladder.ir.rungs import RUNGS
from ladder.ir.shapes import static_shape
from ladder.ir.site import SCHEME_KEY


@dataclass(frozen=True)
class Signature:
    """A compiled function: its inputs and outputs in order, then the weights it takes."""

    name: str
    inputs: list[tuple[str, str, tuple[int, ...]]]
    outputs: list[str]
    weights: list[str]


class Importer:
    """Translates graphs into functions of one Relax module, which share kernels and weights."""

    def __init__(self, family: str, weights: Weights) -> None:
        self.builder = relax.BlockBuilder()
        self.weights = weights
        self.context = Context(self.builder, family)

    def add(self, model: ir.Model, name: str) -> Signature:
        """Add ``model`` as function ``name``; every dimension must be bound."""
        refuse_unknown(model)
        inputs, names = _typed_inputs(model), [value.name or "" for value in model.graph.outputs]
        _compute_outputs(model)
        fold_rungs(model)
        fuse(model)
        packed = pack_graph(model, self.weights)
        proto = _light_graph(model, packed, self.weights)
        walker = _Walker(self.builder, self.context)
        walker.translate(proto, name, model.graph.opset_imports.get("", 1))
        return Signature(name, inputs, names, packed.order)


def _typed_inputs(model: ir.Model) -> list[tuple[str, str, tuple[int, ...]]]:
    rows = []
    for value in model.graph.inputs:
        if value.dtype is None or value.shape is None:
            raise LadderError(
                f"input {value.name} has no known type or shape; export the model with the shapes "
                "of its inputs"
            )
        assert value.name
        shape = static_shape(value)
        if shape is None:
            raise LadderError(
                f"input {value.name} has the open dimensions {value.shape}; "
                "bind them with --dim NAME=SIZE"
            )
        rows.append((value.name, str(value.dtype.numpy()), shape))
    return rows


def _compute_outputs(model: ir.Model) -> None:
    """Let a node compute every output: one may be a weight or an input."""
    names = Names(model)
    for place, value in enumerate(model.graph.outputs):
        if value.producer() is None or value in model.graph.outputs[:place]:
            copy = ir.node("Identity", [value], name=names.fresh(f"{value.name}.output"))
            (output,) = copy.outputs
            output.name, output.type, output.shape = copy.name, value.type, value.shape
            model.graph.append(copy)
            model.graph.outputs[place] = output


def fold_rungs(model: ir.Model) -> None:
    """Let products read stored codes again: packing does the rungs, kernels their inverses."""
    for node in model.graph:
        reader = reader_of(node)
        if reader is not None:
            codes = dialect.stored_codes(node.inputs[reader.place])
            node.replace_input_with(reader.place, codes)
    for node in reversed(model.graph):
        if node.domain == dialect.DOMAIN and node.op_type in RUNGS:
            model.graph.remove(node, safe=True)


def _light_graph(model: ir.Model, packed: PackedGraph, weights: Weights) -> onnx.GraphProto:
    """The graph with weights as its last inputs, in the order of ``packed``."""
    proto = onnx.GraphProto(name=model.graph.name or "main")
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        if value not in packed.replaced and value.const_value.size <= CONSTANT_ELEMENTS:
            tensor = onnx.numpy_helper.from_array(value.const_value.numpy(), value.name)
            proto.initializer.append(tensor)
    for value in model.graph.inputs:
        proto.input.append(ir.to_proto(value))
    for node in model.graph:
        proto.node.append(_light_node(node, packed))
    for name in packed.order:
        array = weights.arrays[name]
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    for value in model.graph.outputs:
        proto.output.append(ir.to_proto(value))
    return proto


def _light_node(node: ir.Node, packed: PackedGraph) -> onnx.NodeProto:
    """A node that reads packed weights by their names."""
    proto: onnx.NodeProto = ir.to_proto(node)
    proto.name = label(node)
    if node.domain != dialect.DOMAIN:
        return proto
    proto.op_type = f"ladder.{node.op_type}[{node.overload}]"
    proto.domain = proto.overload = ""
    reader = reader_of(node)
    if reader is not None:
        for key, value in kernel_attributes(node).items():
            proto.attribute.append(onnx.helper.make_attribute(key, value))
        addends = list(proto.input)[len(proto.input) - addends_of(node) :]
        before = list(proto.input[: reader.place])
        if node.op_type == "MuxGemm":  # aux is part of q, the channels are part of their tables
            before = [proto.input[0], *proto.input[2:4]]
        proto.input[:] = [*before, *packed.operands[node], *addends, *_activation(node)]
    elif node.op_type == "MuxActivation":
        layout, channels = mux_layout_of(node), outlier_channels(node).name
        assert layout is not None
        # The arrays for outliers come last, in place of the channels.
        proto.input[:] = [n for n in proto.input if n != channels] + packed.operands[node]
        proto.attribute.append(onnx.helper.make_attribute("chunks", layout.chunks))
    elif node.op_type in OPERATORS:
        in_place = int(changed_in_place(node))
        proto.attribute.append(onnx.helper.make_attribute(IN_PLACE, in_place))
    return proto


def kernel_attributes(node: ir.Node) -> dict[str, Any]:
    """The attributes of an operator with a low-bit weight, for its converter."""
    shape = static_shape(weight_inputs(node)[0])
    assert shape is not None
    scheme = node.metadata_props.get(SCHEME_KEY, "dot")
    mode = ""
    if node.op_type == "MuxGemm":
        activation = node.inputs[0].producer() if node.inputs[0] is not None else None
        assert activation is not None
        mode = mux_bodies.parse_activation(activation.overload)[0]
    return {"n": shape[0], "k": shape[1], "scheme": scheme.encode(), "mode": mode.encode()}


def _activation(node: ir.Node) -> list[str]:
    """The float activation of a product's first operand; the output has its leading axes."""
    value = node.inputs[0]
    if node.op_type == "LowBitGather":
        return []
    while value is not None and value.producer() is not None:
        producer = value.producer()
        assert producer is not None
        if producer.domain != dialect.DOMAIN or producer.op_type in READERS:
            break
        value = producer.inputs[0]
    assert value is not None and value.name
    return [value.name]


class _Walker(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer with our operators in its table and with our builder."""

    def __init__(self, builder: relax.BlockBuilder, context: Context) -> None:
        super().__init__({}, {}, keep_params_in_input=False, sanitize=True)
        self.bb = builder
        self.context = context

    def translate(self, graph: onnx.GraphProto, name: str, opset: int) -> None:
        self.opset = opset
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._parse_graph_initializers(graph)
            self._parse_graph_input(graph)
            params = [v for v in self._inputs.values() if isinstance(v, relax.Var)]
            try:
                self._add_function(graph, name, params)
            except Exception as error:
                self.bb._end_block()  # TVM prints a warning about one that is left open
                if isinstance(error, LadderError):
                    raise
                raise no_kernel(f"a part of the model ({one_line(error)})") from error

    def _add_function(self, graph: onnx.GraphProto, name: str, params: list[relax.Var]) -> None:
        with self.bb.function(name, params=params):
            with self.bb.dataflow():
                self._construct_nodes(graph)
                outputs = [self._nodes[value.name] for value in graph.output]
                result = self.bb.emit_output(relax.Tuple(outputs))
            self.bb.emit_func_output(result)

    def _convert_operator(
        self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int
    ) -> Any:
        base, _, overload = op_name.partition("[")
        ours: Callable[..., Any] | None = CONVERTERS.get(base)
        if ours is not None:
            made = ours(self.context, inputs, attrs, overload.removesuffix("]"))
            if made is not None:
                return self.bb.normalize(made) if isinstance(made, relax.Expr) else made
        inputs[:] = with_checked_indices(self.context, op_name, inputs, attrs)
        try:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:
            raise LadderError(
                f"{op_name} '{attrs['tvm_custom']['name']}' has no kernel: TVM's ONNX frontend "
                f"cannot convert it ({one_line(error)}); 'ladder quantize' writes an ONNX file for "
                "ONNX Runtime instead"
            ) from error
