"""Runs a model in torch, node by node: its first output, differentiable in given weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ladder.calibration.learned.operators import ONNX_TYPES, OPERATORS, constant
from ladder.calibration.learned.products import PRODUCTS
from ladder.errors import LadderError

Key = tuple[str, str, str]


class Graph:
    """Runs the nodes that the first output needs.

    ``precision`` is the type of products; everything else is float32. ``weights`` are the names of
    the constants that it reads. Operators that have no torch form here are refused when the graph
    is made.
    """

    def __init__(self, model: ir.Model, precision: torch.dtype) -> None:
        self._functions: dict[Key, ir.Function] = dict(model.functions)
        self._precision, self._inputs = precision, model.graph.inputs
        self._output = model.graph.outputs[0]
        self._nodes = _needed(list(model.graph), [self._output])
        self._dead = _dead_after(self._nodes, self._output)
        self.weights = {v.name for n in self._nodes for v in n.inputs if v and v.const_value}
        self._constants: dict[str, Tensor] = {}
        _check(self._nodes, self._functions)

    def __call__(self, feeds: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]) -> Tensor:
        """The output for ``feeds``; ``weights`` replace the initializers with their names."""
        values = {v: torch.from_numpy(feeds[v.name or ""]) for v in self._inputs}
        for node, dead in zip(self._nodes, self._dead, strict=True):
            self._run(node, values, weights)
            for value in dead:
                values.pop(value, None)
        return self._value(self._output, values, weights)

    def _run(
        self, node: ir.Node, values: dict[ir.Value, Tensor], weights: Mapping[str, Tensor]
    ) -> None:
        if node.op_type == "Constant":
            made: Any = self._kept(f"constant of {node.outputs[0].name}", lambda: constant(node))
        else:
            operands = [None if v is None else self._value(v, values, weights) for v in node.inputs]
            made = self._apply(node, operands)
        outputs = made if isinstance(made, tuple | list) else (made,)
        values.update(zip(node.outputs, outputs, strict=False))

    def _apply(self, node: ir.Node, operands: list[Tensor | None]) -> Any:
        function = self._functions.get(node.op_identifier())
        if function is not None:
            inner: dict[ir.Value, Tensor] = {
                v: x for v, x in zip(function.inputs, operands, strict=False) if x is not None
            }
            for each in function:
                self._run(each, inner, {})
            return tuple(inner[v] for v in function.outputs)
        attributes = {name: a.value for name, a in node.attributes.items()}
        if node.op_type in PRODUCTS:
            return PRODUCTS[node.op_type](self._precision, attributes, *operands)
        return OPERATORS[node.op_type](attributes, *operands)

    def _value(
        self, value: ir.Value, values: dict[ir.Value, Tensor], weights: Mapping[str, Tensor]
    ) -> Tensor:
        if value in values:
            return values[value]
        name = value.name or ""
        if name in weights:
            return weights[name]
        tensor = value.const_value
        assert tensor is not None, f"{name} has no value"
        return self._kept(name, lambda: torch.from_numpy(np.array(tensor.numpy())))

    def _kept(self, name: str, make: Any) -> Tensor:
        if name not in self._constants:
            self._constants[name] = make()
        return self._constants[name]


def _needed(nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes that ``outputs`` depend on, in order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            found.append(node)
            wanted.update(v for v in node.inputs if v is not None)
    return found[::-1]


def _dead_after(nodes: Sequence[ir.Node], output: ir.Value) -> list[list[ir.Value]]:
    """For each node, the values that no later node reads."""
    dead: list[list[ir.Value]] = []
    seen = {output}
    for node in reversed(nodes):
        last = [v for v in dict.fromkeys(node.inputs) if v is not None and v not in seen]
        seen.update(last)
        dead.append(last)
    return dead[::-1]


def _check(nodes: Sequence[ir.Node], functions: Mapping[Key, ir.Function]) -> None:
    unknown = set()
    for node in nodes:
        if node.op_identifier() in functions:
            _check(list(functions[node.op_identifier()]), functions)
        elif node.op_type not in {*OPERATORS, *PRODUCTS, "Constant"} or node.domain:
            unknown.add(node.op_type)
        else:
            unknown.update(_left_out(node))
    if unknown:
        raise LadderError(
            f"rounding 'learned' does not support {', '.join(sorted(unknown))}; "
            "use --rounding gptaq"
        )


def _left_out(node: ir.Node) -> list[str]:
    """The features of a node that its operator does not support here."""
    kind, found = node.op_type, []
    attributes = {name: a.value for name, a in node.attributes.items()}
    if kind == "Attention" and any(v is not None for v in node.inputs[4:]):
        found.append("Attention with an internal cache")
    if kind == "Attention" and attributes.get("softcap", 0):
        found.append("Attention with a softcap")
    if kind == "Conv" and attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        found.append(f"Conv with auto_pad {attributes['auto_pad']}")
    if kind == "TensorScatter" and attributes.get("mode", "linear") != "linear":
        found.append(f"TensorScatter with mode {attributes['mode']}")
    if kind == "Cast" and ir.DataType(attributes["to"]) not in ONNX_TYPES:
        found.append(f"Cast to {ir.DataType(attributes['to']).name}")
    if kind != "Split" and any(v.uses() for v in node.outputs[1:]):
        found.append(f"{kind} with more than one output")
    return found
