"""The second step: low-bit operators become calls of Ladder's kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax

from ladder.codegen.context import Context
from ladder.codegen.converters import CONVERTERS
from ladder.codegen.packing import Weights, pack_graph, reader_of, weight_inputs
from ladder.codegen.relax_import import fold_rungs, kernel_attributes
from ladder.hardware.targets import PORTABLE, Level
from ladder.ir import dialect, facts
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import lower_products
from ladder.plugin import packing
from ladder.plugin.match import is_constant, op_name
from ladder.plugin.model import (
    FLOAT,
    INT64,
    data_input,
    dialect_node,
    dims_of,
    new_model,
    packed,
    weight_values,
)
from ladder.plugin.mutate import Make, Rewriter, emit_packed, functions, tensor_type
from ladder.plugin.operator_names import ATTENTION, GATHER, IN_DIALECT, is_low_bit
from ladder.plugin.sites import scoped_bindings
from ladder.timing.cost_tables import machine_of

# Relax operator -> the converter of the ONNX operator, and its attributes by name.
OPERATORS: dict[str, tuple[str, dict[str, str]]] = {
    ATTENTION: ("Attention", {"scale": "scale"}),
    "relax.nn.rms_norm": ("RMSNormalization", {"epsilon": "epsilon"}),
}


def lower_module(mod: Any, options: CompileOptions, level: Level) -> Any:
    """``mod`` with low-bit operators lowered to kernels of ``level``, which share activations."""
    made: dict[Any, Make] = {}
    rewriter, packer = Rewriter(mod, made), _Packer()
    context = Context(rewriter.builder_, level.kernels)
    for _, func in functions(mod):
        products = _Products(packer)
        products.collect(func)
        if products.variables:
            facts.put(products.model, machine_of(level.name))
            run_passes(products.model, lower_products(options))
            fold_rungs(products.model)
            products.pack()
            made.update(products.makers(context))
    return rewriter.rewritten() if made else mod


def legalized(builder: Any, call: Any) -> Any:
    """One operator as its portable float kernel, which defines its meaning."""
    products = _Products(_Packer())
    products.add(call, 0, call)
    products.pack()
    steps = _Steps(products, list(products.model.graph), Context(builder, PORTABLE))
    return steps.emit(lambda expr: expr)


def lower_operators(mod: Any) -> Any:
    """``mod`` with attention and normalizations as Ladder's kernels, where there are any."""
    made: dict[Any, Make] = {}
    rewriter = Rewriter(mod, made)
    context = Context(rewriter.builder_, PORTABLE)  # float kernels are the same for all levels
    for _, func in functions(mod):
        for _, binding in scoped_bindings(func.body):
            if op_name(binding.value) in OPERATORS:
                made[binding.var] = _operator_maker(context, binding.value)
    return rewriter.rewritten() if made else mod


def _operator_maker(context: Context, call: Any) -> Make:
    return lambda new: _operator(context, call, [new.new(arg) for arg in call.args])


def legalized_operator(builder: Any, call: Any) -> Any:
    """One operator as its kernel."""
    return _operator(Context(builder, PORTABLE), call, list(call.args))


def _operator(context: Context, call: Any, arguments: list[Any]) -> Any:
    name, attributes = OPERATORS[call.op.name]
    attrs = {onnx: call.attrs[ours] for onnx, ours in attributes.items()}
    made = CONVERTERS[name](context, arguments, attrs, "")
    return relax.Call(call.op, arguments, call.attrs) if made is None else made


class _Packer:
    """The weights of a module, each packed once, as constants."""

    def __init__(self) -> None:
        self.weights = Weights()
        self._names: dict[object, str] = {}
        self._constants: dict[str, Any] = {}

    def name(self, key: object) -> str:
        """A name for a weight, the same for the same weight."""
        return self._names.setdefault(key, f"weight{len(self._names)}")

    def constants(self, names: Sequence[str]) -> list[Any]:
        """Packed operands by their names."""
        for name in names:
            if name not in self._constants:
                self._constants[name] = relax.const(self.weights.arrays[name])
        return [self._constants[name] for name in names]


class _Products:
    """The low-bit operators of a function as a graph, and the Relax values of its inputs."""

    def __init__(self, packer: _Packer) -> None:
        self.packer = packer
        self.model = new_model()
        self.variables: dict[str, Any] = {}
        self.data: dict[str, ir.Value] = {}
        self.expressions: dict[ir.Value, Any] = {}
        self.results: dict[ir.Value, Any] = {}
        self.packed: dict[ir.Node, list[str]] = {}
        self._data: dict[tuple[int, Any], ir.Value] = {}
        self._weights: dict[object, list[ir.Value]] = {}

    def collect(self, func: Any) -> None:
        """Add every low-bit operator; activations are shared within a block of bindings."""
        for scope, binding in scoped_bindings(func.body):
            if is_low_bit(binding.value):
                self.add(binding.value, scope, binding.var)

    def add(self, call: Any, scope: int, variable: Any) -> None:
        attrs, name = call.attrs, f"p{len(self.variables)}"
        dtype, data = DType.parse(str(attrs["type"])), call.args[0]
        if (scope, data) not in self._data:
            kind = INT64 if call.op.name == GATHER else FLOAT
            value = data_input(self.model, f"x{len(self._data)}", dims_of(data), kind)
            self._data[scope, data], self.expressions[value] = value, data
        self.data[name], self.variables[name] = self._data[scope, data], variable
        weight = self._weight(list(call.args)[1:], dtype)
        op = IN_DIALECT[call.op.name]
        node = dialect_node(op, dtype, name, self.data[name], weight, dims_of(call))
        self.model.graph.append(node)
        self.model.graph.outputs.extend(node.outputs)

    def _weight(self, operands: list[Any], dtype: DType) -> list[ir.Value]:
        key = (str(dtype), *(_identity(operand) for operand in operands))
        if key not in self._weights:
            arrays = [o.value.numpy() if is_constant(o) else o for o in operands]
            self._weights[key] = weight_values(self.packer.name(key), arrays, dtype)
            for value, operand in zip(self._weights[key], operands, strict=True):
                self.expressions[value] = operand
                if value.const_value is not None:
                    self.model.graph.register_initializer(value)
                else:
                    self.model.graph.inputs.append(value)
        return self._weights[key]

    def pack(self) -> None:
        """Pack the weights that are constants, after all lowering."""
        self.packed = pack_graph(self.model, self.packer.weights).operands

    def makers(self, context: Context) -> dict[Any, Make]:
        """Variable of an operator -> the function that emits the nodes up to it."""
        made: dict[Any, Make] = {}
        nodes: list[ir.Node] = []
        for node in self.model.graph:
            nodes.append(node)
            if node.name in self.variables:
                made[self.variables[node.name]] = _Steps(self, nodes, context).make
                nodes = []
        return made


def _identity(operand: Any) -> object:
    return operand.value.data_ptr() if is_constant(operand) else operand


class _Steps:
    """Nodes of a function's graph that end in a product or a Gather."""

    def __init__(self, products: _Products, nodes: Sequence[ir.Node], context: Context) -> None:
        self.products, self.nodes, self.context = products, nodes, context

    def make(self, rewriter: Rewriter) -> Any:
        return self.emit(rewriter.new)

    def emit(self, new: Callable[[Any], Any]) -> Any:
        """Emit the nodes through the kernels' converters; ``new`` rewrites an expression."""
        result = None
        for node in self.nodes:
            result = self.context.builder.normalize(self._convert(node, new))
            many = len(node.outputs) > 1
            for i, value in enumerate(node.outputs):
                part = relax.TupleGetItem(result, i) if many else result
                self.products.results[value] = self.context.builder.emit(part) if many else result
        return result

    def _convert(self, node: ir.Node, new: Callable[[Any], Any]) -> Any:
        reader, attrs = reader_of(node), {}
        place = None if reader is None else reader.place
        inputs = [self._value(value, new) for value in node.inputs[:place]]
        if reader is not None:
            attrs = kernel_attributes(node)
            inputs += self._weight(node, new)
            if node.op_type != "LowBitGather":
                inputs.append(new(self.products.expressions[self.products.data[str(node.name)]]))
        convert = CONVERTERS[f"{dialect.DOMAIN}.{node.op_type}"]
        return convert(self.context, inputs, attrs, node.overload)

    def _value(self, value: ir.Value | None, new: Callable[[Any], Any]) -> Any:
        assert value is not None
        if value in self.products.results:
            return self.products.results[value]
        made = new(self.products.expressions[value])
        if value.dtype == INT64 and made.ty.dtype.dtype != "int64":
            made = self.context.builder.emit(relax.op.astype(made, "int64"))
        return made

    def _weight(self, node: ir.Node, new: Callable[[Any], Any]) -> list[Any]:
        if node in self.products.packed:
            return self.products.packer.constants(self.products.packed[node])
        dtype = dialect.weight_type(node)
        operands = [new(self.products.expressions[value]) for value in weight_inputs(node)]
        texts = [tvm.ir.StringImm(node.op_type), tvm.ir.StringImm(str(dtype))]
        # Packing empty arrays gives the types of the operands.
        nothing = [np.zeros([int(d) for d in o.ty.shape], o.ty.dtype.dtype) for o in operands]
        types = [tensor_type(a) for a in packed(node.op_type, str(dtype), nothing)]
        return emit_packed(self.context.builder, packing.PACK, [*texts, *operands], types)
