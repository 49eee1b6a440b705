"""Reads a Relax function backwards: from a value to its operator, also through plain copies."""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
from tvm import relax

COPIES = ("relax.reshape", "relax.broadcast_to", "relax.expand_dims", "relax.squeeze")


def op_name(expr: Any) -> str:
    """The name of the operator that ``expr`` calls, or an empty text."""
    return str(getattr(getattr(expr, "op", None), "name", ""))


def is_constant(expr: Any) -> bool:
    """Whether ``expr`` is a constant tensor."""
    return isinstance(expr, tvm.ir.GenericConst)


def static_dims(expr: Any) -> tuple[int, ...] | None:
    """The shape of a value, or None unless all sizes are numbers."""
    shape = getattr(expr.ty, "shape", None)
    if shape is None or any(not hasattr(d, "value") for d in shape):
        return None
    return tuple(int(d) for d in shape)


class Reader:
    """The values of a function by the variables they are bound to."""

    def __init__(self, bindings: list[tuple[int, Any]]) -> None:
        self.bound = {binding.var: binding.value for _, binding in bindings}

    def value(self, expr: Any) -> Any:
        """The expression that a variable is bound to; other expressions as they are."""
        while isinstance(expr, relax.Var) and expr in self.bound:
            expr = self.bound[expr]
        return expr

    def call(self, expr: Any, *names: str) -> Any:
        """The call that computes ``expr``, if it is of one of the operators; else None."""
        value = self.value(expr)
        return value if op_name(value) in names else None

    def through_copies(self, expr: Any, *names: str) -> Any:
        """``call``, also through copies that move no element."""
        while True:
            value = self.value(expr)
            if op_name(value) in names:
                return value
            if op_name(value) not in COPIES or not _same_size(value, value.args[0]):
                return None
            expr = value.args[0]

    def as_rank(self, expr: Any, rank: int) -> Any:
        """The first value of ``rank`` axes, through copies that move no element, or None."""
        while len(expr.ty.shape) != rank:
            value = self.value(expr)
            if op_name(value) not in COPIES or not _same_size(value, value.args[0]):
                return None
            expr = value.args[0]
        return expr

    def number(self, expr: Any) -> float | None:
        """A constant scalar."""
        value = self.value(expr)
        if is_constant(value) and value.value.numpy().size == 1:
            return float(value.value.numpy().reshape(()))
        return None

    def times(self, call: Any) -> tuple[Any, float] | None:
        """(x, c) of a multiplication by a constant scalar."""
        for x, c in (call.args, reversed(call.args)):
            number = self.number(c)
            if number is not None:
                return x, number
        return None


def _same_size(a: Any, b: Any) -> bool:
    shapes = [static_dims(a), static_dims(b)]
    return None not in shapes and prod(shapes[0] or ()) == prod(shapes[1] or ())
