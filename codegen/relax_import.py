"""The IR to Relax: ladder operators by our kernels, the others by TVM's ONNX converters.

TVM's importer walks an ONNX graph, so the IR goes through a light ONNX graph without weights:
weights become parameters of the Relax function, dialect operators are spelled
``ladder.OP[overload]``.
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

from ladder.codegen.converters import CONVERTERS, Context
from ladder.codegen.fusion import addends_of, fuse
from ladder.codegen.packing import LOW_BIT_OPERANDS, Weights, mux_layout_of, outlier_channels
from ladder.errors import LadderError
from ladder.ir import dialect, mux_bodies
from ladder.ir.rungs import RUNGS
from ladder.ir.shapes import static_shape
from ladder.ir.site import SCHEME_KEY

CONSTANT_ELEMENTS = 64  # smaller ones are shapes, axes and scalars: constants of the function


@dataclass(frozen=True)
class Signature:
    """A compiled function: its inputs and outputs in order, then the weights it takes."""

    name: str
    inputs: list[tuple[str, str, tuple[int, ...]]]
    outputs: list[str]
    weights: list[str]


class Importer:
    """Translates graphs into functions of one Relax module, sharing kernels and weights."""

    def __init__(self, family: str, weights: Weights) -> None:
        self.builder = relax.BlockBuilder()
        self.weights = weights
        self.context = Context(self.builder, family)

    def add(self, model: ir.Model, name: str) -> Signature:
        """Add ``model`` as function ``name``; every dimension must be bound."""
        inputs = _typed_inputs(model)
        fold_rungs(model)
        fuse(model)
        proto, names = _light_graph(model, self.weights)
        walker = _Walker(self.builder, self.context)
        outputs = walker.translate(proto, name, model.graph.opset_imports.get("", 1), set(names))
        return Signature(name, inputs, outputs, names)


def _typed_inputs(model: ir.Model) -> list[tuple[str, str, tuple[int, ...]]]:
    rows = []
    for value in model.graph.inputs:
        assert value.name and value.dtype is not None and value.shape is not None
        shape = static_shape(value)
        if shape is None:
            raise LadderError(
                f"input {value.name} has the open dimensions {value.shape}; "
                "bind them with --dim NAME=SIZE"
            )
        rows.append((value.name, str(value.dtype.numpy()), shape))
    return rows


def fold_rungs(model: ir.Model) -> None:
    """Products read stored codes again: packing does the rungs, and kernels their inverses."""
    for node in model.graph:
        place = LOW_BIT_OPERANDS.get(node.op_type) if node.domain == dialect.DOMAIN else None
        if place is not None:
            node.replace_input_with(place, dialect.stored_codes(node.inputs[place]))
    for node in reversed(model.graph):
        if node.domain == dialect.DOMAIN and node.op_type in RUNGS:
            model.graph.remove(node, safe=True)


def _light_graph(model: ir.Model, weights: Weights) -> tuple[onnx.GraphProto, list[str]]:
    """The graph with weights as inputs, and their names in the order of those inputs."""
    names: dict[str, None] = {}
    proto = onnx.GraphProto(name=model.graph.name or "main")
    held = {}
    packed = _packed_operands(model)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        if value in packed:
            continue
        if value.const_value.size <= CONSTANT_ELEMENTS:
            tensor = onnx.numpy_helper.from_array(value.const_value.numpy(), value.name)
            proto.initializer.append(tensor)
        else:
            held[value.name] = value
    for value in model.graph.inputs:
        proto.input.append(ir.to_proto(value))
    for node in model.graph:
        proto.node.append(_light_node(node, weights, names, held))
    for name in names:
        array = weights.arrays[name]
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    for value in model.graph.outputs:
        proto.output.append(ir.to_proto(value))
    return proto, list(names)


def _packed_operands(model: ir.Model) -> set[ir.Value | None]:
    """Codes, scales and zero points: kernels read them packed, never as they stand in the IR."""
    operands: set[ir.Value | None] = set()
    for node in model.graph:
        place = LOW_BIT_OPERANDS.get(node.op_type) if node.domain == dialect.DOMAIN else None
        if place is not None:
            count = dialect.weight_operands(dialect.weight_type(node))
            operands.update(node.inputs[place : place + count])
    return operands


def _light_node(
    node: ir.Node, weights: Weights, names: dict[str, None], held: dict[str | None, ir.Value]
) -> onnx.NodeProto:
    proto: onnx.NodeProto = ir.to_proto(node)
    if node.domain == dialect.DOMAIN:
        proto.op_type = f"ladder.{node.op_type}[{node.overload}]"
        proto.domain = proto.overload = ""
        place = LOW_BIT_OPERANDS.get(node.op_type)
        if place is not None:
            packed = weights.low_bit(node, dialect.weight_type(node))
            names.update(dict.fromkeys(packed))
            for key, value in kernel_attributes(node).items():
                proto.attribute.append(onnx.helper.make_attribute(key, value))
            addends = list(proto.input)[len(proto.input) - addends_of(node) :]
            names_before = list(proto.input[:place])
            if node.op_type == "MuxGemm":  # aux stands in q, the channels in their tables
                names_before = [proto.input[0], *proto.input[2:4]]
            proto.input[:] = [*names_before, *packed, *addends, *_activation(node)]
        elif node.op_type == "MuxActivation":
            _name_outliers(node, proto, weights, names)
    for name in proto.input:
        if name in held:
            names[weights.plain(held[name])] = None
    return proto


def _name_outliers(
    node: ir.Node, proto: onnx.NodeProto, weights: Weights, names: dict[str, None]
) -> None:
    """What a kernel is told of outliers, last and in place of their channels."""
    layout, channels = mux_layout_of(node), outlier_channels(node).name
    assert layout is not None
    told = weights.outliers(node, ("small", "table"))
    names.update(dict.fromkeys(told))
    proto.input[:] = [*(name for name in proto.input if name != channels), *told]
    proto.attribute.append(onnx.helper.make_attribute("chunks", layout.chunks))


def kernel_attributes(node: ir.Node) -> dict[str, Any]:
    """What the converter of an operator with a low-bit weight is told, as ONNX has it."""
    shape = static_shape(node.inputs[LOW_BIT_OPERANDS[node.op_type]])
    assert shape is not None
    scheme = node.metadata_props.get(SCHEME_KEY, "dot")
    mode = ""
    if node.op_type == "MuxGemm":
        activation = node.inputs[0].producer() if node.inputs[0] is not None else None
        assert activation is not None
        mode = mux_bodies.parse_activation(activation.overload)[0]
    return {"n": shape[0], "k": shape[1], "scheme": scheme.encode(), "mode": mode.encode()}


def _activation(node: ir.Node) -> list[str]:
    """The float activation behind a product's first operand: the output has its leading axes."""
    value = node.inputs[0]
    if node.op_type == "LowBitGather":
        return []
    while value is not None and value.producer() is not None:
        producer = value.producer()
        assert producer is not None
        if producer.domain != dialect.DOMAIN or producer.op_type in LOW_BIT_OPERANDS:
            break
        value = producer.inputs[0]
    assert value is not None and value.name
    return [value.name]


class _Walker(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer with our operators in its table and our builder under it."""

    def __init__(self, builder: relax.BlockBuilder, context: Context) -> None:
        super().__init__({}, {}, keep_params_in_input=False, sanitize=True)
        self.bb = builder
        self.context = context

    def translate(
        self, graph: onnx.GraphProto, name: str, opset: int, weights: set[str]
    ) -> list[str]:
        self.opset = opset
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._parse_graph_initializers(graph)
            self._parse_graph_input(graph)
            self._check_for_unsupported_ops(graph)
            params = [v for v in self._inputs.values() if isinstance(v, relax.Var)]
            with self.bb.function(name, params=params):
                with self.bb.dataflow():
                    self._construct_nodes(graph)
                    outputs = [self._nodes[value.name] for value in graph.output]
                    result = self.bb.emit_output(relax.Tuple(outputs))
                self.bb.emit_func_output(result)
        return [value.name for value in graph.output]

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        known = {*onnx_frontend._get_convert_map(), *CONVERTERS, "If", "Constant"}
        unknown = sorted({n.op_type for n in graph.node if n.op_type.split("[")[0] not in known})
        if unknown:
            raise LadderError(
                f"no kernel for the operators {', '.join(unknown)}: "
                "TVM's ONNX frontend lacks them; "
                "'ladder quantize' writes an ONNX file for ONNX Runtime instead"
            )

    def _convert_operator(
        self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int
    ) -> Any:
        base, _, overload = op_name.partition("[")
        ours: Callable[..., Any] | None = CONVERTERS.get(base)
        if ours is not None:
            made = ours(self.context, inputs, attrs, overload.removesuffix("]"))
            if made is not None:
                return self.bb.normalize(made) if isinstance(made, relax.Expr) else made
        return super()._convert_operator(op_name, inputs, attrs, opset)
