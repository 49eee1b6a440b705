"""Experts that are named one by one become sites of their own, so that each has its own type."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ladder.ir.names import add_initializer
from ladder.ir.site import APART_KEY, EXPERTS_KEY, SITE_KEY, constant_of
from ladder.passes.infra.base import Pass
from ladder.passes.infra.maker import Maker

INT, BOOL, FLOAT = ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.FLOAT


@dataclass(frozen=True)
class Stack:
    """The product of rows with chosen experts, as ``gather-experts`` makes it."""

    name: str
    gather: ir.Node
    chosen: ir.Value  # [S, 1]
    column: ir.Value  # [S, K, 1]
    squeeze: ir.Node
    weights: np.ndarray  # [E, N, K]


@dataclass(frozen=True)
class SplitExperts(Pass):
    """Take the experts whose names match ``patterns`` out of their stack.

    The names are those of the stack with a number: ``...experts.3.gate_up_proj``. With %chosen
    [S, 1] and expert 3 taken out:

    %y = Squeeze(MatMul(Gather(%w.rows, rows of %chosen), %x))
      -->  %y0 = the same with the other experts, whose numbers are theirs among the others
           %y3 = the same with expert 3 alone
           %y = Where(Equal(%chosen, 3), %y3, %y0)

    Where a token chose another expert the number is -1, and compiled code skips the product.
    """

    patterns: tuple[str, ...] = ()

    def run(self, model: ir.Model) -> None:
        for node in list(model.graph):
            stack = _stack(node) if EXPERTS_KEY in node.metadata_props else None
            if stack is not None:
                named = [e for e in range(len(stack.weights)) if self._names(stack.name, e)]
                if named:
                    _split(model.graph, stack, named)
        common.RemoveUnusedNodesPass()(model)

    def _names(self, stack: str, expert: int) -> bool:
        """Whether a pattern means this expert, and not the whole stack."""
        name = name_of(stack, expert)
        return name != stack and any(
            fnmatch.fnmatchcase(name, pattern) and not fnmatch.fnmatchcase(stack, pattern)
            for pattern in self.patterns
        )


def name_of(stack: str, expert: int) -> str:
    """The name of one expert of a stack; that of the stack, if it has no place for a number."""
    return re.sub(r"\bexperts\.", f"experts.{expert}.", stack, count=1)


def _stack(gather: ir.Node) -> Stack | None:
    product = _reader(gather.outputs[0], "MatMul")
    squeeze = _reader(product.outputs[0], "Squeeze") if product is not None else None
    rows, table = gather.inputs[1], constant_of(gather.inputs[0])
    scaled = rows.producer().inputs[0] if rows is not None and rows.producer() else None  # type: ignore[union-attr]
    times = scaled.producer() if scaled is not None else None
    if product is None or squeeze is None or table is None or times is None:
        return None
    column, chosen, n = product.inputs[1], times.inputs[0], constant_of(times.inputs[1])
    if product.inputs[0] is not gather.outputs[0] or column is None or chosen is None or n is None:
        return None
    weights = table.numpy().reshape(-1, int(n.numpy().item()), int(table.shape[1]))  # type: ignore[arg-type]
    return Stack(gather.metadata_props[SITE_KEY], gather, chosen, column, squeeze, weights)


def _reader(value: ir.Value, op: str) -> ir.Node | None:
    """The only reader of a value, if it is an ``op``."""
    uses = list(value.uses())
    alone = len(uses) == 1 and not value.is_graph_output() and uses[0].node.op_type == op
    return uses[0].node if alone else None


def _split(graph: ir.Graph, stack: Stack, named: list[int]) -> None:
    make = Maker(graph, f"{stack.name}.split")
    others = [e for e in range(len(stack.weights)) if e not in named]
    each = make.constant("each", np.arange(stack.weights.shape[1], dtype=np.int64)[None])
    shape = stack.chosen.shape
    one, none = (make.constant(n, np.array([[v]])) for n, v in (("one", 1), ("none", -1)))

    def add(a: ir.Value, b: ir.Value, op: str = "Add") -> ir.Value:
        return make.make(op, [a, b], INT, shape)

    place, result, zero = stack.chosen, None, make.constant("zero", np.array([[0]]))
    chosen: dict[int, ir.Value] = {}
    for e in named:
        number = make.constant(f"number{e}", np.array([[e]]))
        chosen[e] = make.make("Equal", [stack.chosen, number], BOOL, shape)
        after = make.make("Greater", [stack.chosen, number], BOOL, shape)
        place = add(place, make.make("Where", [after, one, zero], INT, shape), "Sub")
    for is_it in chosen.values():
        place = make.make("Where", [is_it, none, place], INT, shape)
    if others:
        result = _product(make, stack, stack.name, others, place, each)
    for e, is_it in chosen.items():
        ids = make.make("Where", [is_it, zero, none], INT, shape)
        own = _product(make, stack, name_of(stack.name, e), [e], ids, each)
        out = stack.squeeze.outputs[0]
        result = (
            own if result is None else make.make("Where", [is_it, own, result], FLOAT, out.shape)
        )
    assert result is not None
    graph.insert_before(stack.squeeze, make.nodes)
    out = stack.squeeze.outputs[0]
    out.replace_all_uses_with(result, replace_graph_outputs=True)
    kept = out.name
    graph.remove(stack.squeeze, safe=True)
    result.name = kept


def _product(
    make: Maker, stack: Stack, name: str, experts: list[int], ids: ir.Value, each: ir.Value
) -> ir.Value:
    """The product with some experts; ``ids`` [S, 1] are their numbers among these, or -1."""
    _, n, k = stack.weights.shape
    table = add_initializer(make.graph, f"{name}.rows", stack.weights[experts].reshape(-1, k))
    count = make.constant(f"{name}.n", np.array([[n]]))
    first = make.make("Mul", [ids, count], INT, ids.shape)
    tokens = ids.shape[0] if ids.shape is not None else None
    rows = make.make("Add", [first, each], INT, ir.Shape([tokens, n]))
    weights = make.make("Gather", [table, rows], FLOAT, ir.Shape([tokens, n, k]), {"axis": 0})
    gather = weights.producer()
    assert gather is not None
    gather.metadata_props.update(stack.gather.metadata_props)
    gather.metadata_props.update({SITE_KEY: name, APART_KEY: "true"})
    product = make.make("MatMul", [weights, stack.column], FLOAT, ir.Shape([tokens, n, 1]))
    axis = make.constant(f"{name}.axis", np.array([2]))
    return make.make("Squeeze", [product, axis], FLOAT, ir.Shape([tokens, n]))
