"""A Relax module's weights as a Ladder model with one node per site, for passes on the IR.

The nodes between the sites are left out, and every activation is an input of the graph. This module
imports no compiler: weights that are parameters may be rounded and packed by TVM's runtime alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ladder.codegen.kernels.signature import present, weight_operands
from ladder.codegen.layout import Packing
from ladder.codegen.packing import READERS, StoredWeight
from ladder.ir import dialect
from ladder.ir.dtype import DType
from ladder.ir.facts import Choice
from ladder.ir.site import SITE_KEY
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights

if TYPE_CHECKING:
    from ladder.plugin.sites import Use

OPSET = 25
FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
Dims = Sequence[int | str]


def new_model() -> ir.Model:
    """An empty model."""
    return ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}), ir_version=11)


def dims_of(expr: Any) -> list[int | str]:
    """The sizes of a Relax value; symbolic ones as text."""
    return [int(d) if hasattr(d, "value") else str(d) for d in expr.ty.shape]


def data_input(model: ir.Model, name: str, dims: Dims, kind: ir.DataType = FLOAT) -> ir.Value:
    """A new input of the graph."""
    value = ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(dims))
    model.graph.inputs.append(value)
    return value


def float_weight(model: ir.Model, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A weight in the orientation in which it is stored."""
    kind = ir.TensorType(FLOAT)
    shape = ir.Shape([int(str(d)) for d in tensor.shape])
    value = ir.Value(name=name, type=kind, shape=shape, const_value=tensor)
    model.graph.register_initializer(value)
    return value


def add_site(
    model: ir.Model, name: str, data: ir.Value, weight: ir.Value, transposed: bool, gathers: bool
) -> None:
    """A product by ``weight`` (stored [K, N] if ``transposed``), or a Gather from it."""
    if gathers:
        node = ir.node("Gather", [weight, data], {"axis": 0}, name=name)
    elif transposed:
        node = ir.node("MatMul", [data, weight], name=name)
    else:
        swap = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{name}.swap")
        swap.outputs[0].name = f"{name}.swapped"
        model.graph.append(swap)
        node = ir.node("MatMul", [data, *swap.outputs], name=name)
    out = node.outputs[0]
    out.name, out.type = f"{name}.out", ir.TensorType(FLOAT)
    node.metadata_props[SITE_KEY] = name
    model.graph.append(node)
    model.graph.outputs.append(out)


class Skeleton:
    """The model of several uses of weights, and the uses of each of its sites."""

    def __init__(self, uses: Iterable[Use]) -> None:
        self.model = new_model()
        self.uses: dict[str, list[Use]] = {}
        self._weights: dict[object, ir.Value] = {}
        self._sites: dict[tuple[object, bool], str] = {}
        for use in uses:
            self._add(use)

    def _add(self, use: Use) -> None:
        # A parameter that is read in several places is one site; a constant has no name to go by.
        known = use.var if use.is_constant else use.identity
        key = (known, use.gathers)
        if key not in self._sites:
            site = self._sites[key] = self._fresh(use.name)
            kind = INT64 if use.gathers else FLOAT
            data = data_input(self.model, f"{site}.in", dims_of(use.data), kind)
            add_site(self.model, site, data, self._weight(use), use.transposed, use.gathers)
        self.uses.setdefault(self._sites[key], []).append(use)

    def _weight(self, use: Use) -> ir.Value:
        if use.identity not in self._weights:
            name = f"{use.name}.stored.{len(self._weights)}"
            shape = ir.Shape(use.stored_shape)
            tensor = ir.LazyTensor(use.tensor, dtype=FLOAT, shape=shape, name=name)
            self._weights[use.identity] = float_weight(self.model, name, tensor)
        return self._weights[use.identity]

    def _fresh(self, name: str) -> str:
        fresh, count = name, 1
        while fresh in self.uses:
            count += 1
            fresh = f"{name}#{count}"
        return fresh

    def is_constant(self, site: str) -> bool:
        """Whether the weight is a constant, so that its values are known."""
        return self.uses[site][0].is_constant


def round_array(
    weight: np.ndarray, type: str, rounding: str, transposed: bool, site: str
) -> list[np.ndarray]:
    """A float weight as operands of a low-bit operator, in the dialect's order, codes as bytes."""
    model = new_model()
    stored = float_weight(model, f"{site}.stored", ir.tensor(weight, name=f"{site}.stored"))
    k = weight.shape[0 if transposed else 1]
    add_site(model, site, data_input(model, f"{site}.in", [1, k]), stored, transposed, False)
    put_choices(model, {site: Choice(DType.parse(type), "asked for")})
    run_passes(model, [RoundWeights(rounding)])
    node = next(n for n in model.graph if n.op_type == "LowBitMatMul")
    return [as_bytes(v.const_value.numpy()) for v in node.inputs[1:] if v and v.const_value]


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Codes of less than a byte are stored as bytes; other arrays stay as they are."""
    name = array.dtype.name
    if name.lstrip("u").startswith("int") and name.lstrip("u")[3:] in ("2", "4"):
        array = array.astype(np.uint8 if name.startswith("u") else np.int8)
    return np.ascontiguousarray(array)


def weight_values(name: str, operands: Sequence[Any], dtype: DType) -> list[ir.Value]:
    """Operands of a weight, arrays or Relax expressions, as values of a graph.

    Those that are expressions have a shape but no values.
    """
    zero = ["zero"] if dtype.zero_point else []
    values = []
    for part, operand in zip(["codes", "scale", *zero, "tensor_scale"], operands, strict=False):
        value = ir.Value(name=f"{name}.{part}")
        kind = dtype.element.onnx if part == "codes" else None
        if isinstance(operand, np.ndarray):
            kind = kind or ir.DataType.from_numpy(operand.dtype)
            tensor = ir.Tensor(operand.astype(kind.numpy()), dtype=kind, name=value.name)
            value.const_value, value.shape = tensor, ir.Shape(operand.shape)
        else:
            value.shape = ir.Shape(dims_of(operand))
        value.type = ir.TensorType(kind or FLOAT)
        values.append(value)
    return values


def dialect_node(
    op: str, dtype: DType, site: str, data: ir.Value, weight: Sequence[ir.Value], dims: Dims
) -> ir.Node:
    """A node of the dialect; its output has the sizes ``dims``."""
    out = ir.Value(name=f"{site}.out", type=ir.TensorType(FLOAT), shape=ir.Shape(dims))
    node = dialect.node(op, str(dtype), [data, *weight], [out])
    node.name = node.metadata_props[SITE_KEY] = site
    return node


def packed(op: str, type: str, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The operands of a low-bit operator, packed for the kernel of dialect operator ``op``.

    ``op`` may be a lowered operator. Some kernels read a code book's digits, others its values.
    """
    dtype = DType.parse(type)
    stored = StoredWeight(dtype, operands)
    order = present(weight_operands(READERS[op].kernel, Packing.of(dtype)))
    return [stored.operand(operand.name) for operand in order]
