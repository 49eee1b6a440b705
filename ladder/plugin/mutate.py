"""Replaces the values of bindings in every Relax function of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tvm import relax

from ladder.plugin.packing import PACK
from ladder.plugin.sites import scoped_bindings

Make = Callable[["Rewriter"], Any]


def functions(mod: Any) -> Iterator[tuple[Any, Any]]:
    """(global variable, function) of the Relax functions that TVM has not fused or lowered."""
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function) and "Primitive" not in (func.attrs or {}):
            yield var, func


def tensor_type(array: np.ndarray) -> Any:
    """The Relax type of an array."""
    return relax.TensorType(array.shape, str(array.dtype))


def emit_packed(builder: Any, name: str, arguments: list[Any], types: list[Any]) -> list[Any]:
    """Emit a call of a pure packed function; returns its results one by one."""
    call = relax.call_pure_packed(name, *arguments, ty_args=relax.TupleType(types))
    whole = builder.emit(call)
    return [builder.emit(relax.TupleGetItem(whole, i)) for i in range(len(types))]


def packs_later(mod: Any) -> bool:
    """Whether a function of the module calls ``packing`` for its weights."""
    return any(
        _calls(binding.value, PACK)
        for _, func in functions(mod)
        for _, binding in scoped_bindings(func.body)
    )


def _calls(value: Any, name: str) -> bool:
    """Whether ``value`` is a pure call of the packed function ``name``."""
    return isinstance(value, relax.Call) and any(
        isinstance(part, relax.ExternFunc) and str(part.global_symbol) == name
        for part in (value.op, *value.args)
    )


@relax.expr_functor.mutator
class Rewriter(relax.PyExprMutator):  # type: ignore[misc]
    """Rewrites the bindings of variables: ``made`` has a maker for each variable to replace.

    A maker gets this rewriter: ``builder_`` emits before the binding, and ``new`` rewrites an old
    expression.
    """

    def __init__(self, mod: Any, made: dict[Any, Make]) -> None:
        super().__init__(mod)
        self.mod, self.made = mod, made

    def visit_var_binding_(self, binding: Any) -> None:
        make = self.made.get(binding.var)
        if make is not None:
            binding = relax.VarBinding(binding.var, make(self))
        super().visit_var_binding_(binding)

    def new(self, expr: Any) -> Any:
        """``expr`` with its rewritten variables."""
        return self.visit_expr(expr)

    def rewritten(self) -> Any:
        """The rewritten module, without code that is no longer used."""
        for var, func in functions(self.mod):
            self.builder_.update_func(var, self.visit_expr(func))
        done = self.builder_.get()
        attrs = self.mod.attrs
        done = done.with_attrs(attrs) if attrs else done
        return relax.transform.DeadCodeElimination()(done)
