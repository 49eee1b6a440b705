"""Finds where a Relax function reads a weight: matrix products and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from tvm import relax

from ladder.errors import LadderError
from ladder.ir.site import SMALLEST_EMBEDDING_ROWS
from ladder.plugin.match import is_constant, op_name

NUM_INPUT = "num_input"  # TVM's attribute: parameters after so many inputs are weights


@dataclass(frozen=True)
class Use:
    """A binding that multiplies by a weight, or gathers its rows.

    ``scope`` identifies the binding block. The weight is stored [K, N] if ``transposed``.
    """

    name: str
    var: Any
    data: Any
    weight: Any
    transposed: bool
    gathers: bool
    scope: int

    @property
    def stored_shape(self) -> tuple[int, int]:
        rows, columns = (int(d) for d in self.weight.ty.shape)
        return rows, columns

    @property
    def nk(self) -> tuple[int, int]:
        """Out and in features."""
        rows, columns = self.stored_shape
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def is_constant(self) -> bool:
        """Whether the weight is a constant, so that its values are known."""
        return is_constant(self.weight)

    @property
    def identity(self) -> object:
        """Equal for uses of the same weight: constants with the same memory, the same parameter."""
        if self.is_constant:
            return int(self.weight.value.data_ptr())
        return str(self.weight.name), self.stored_shape

    def tensor(self) -> ir.TensorProtocol:
        """The values of a constant weight."""
        if not self.is_constant:
            raise LadderError(f"site {self.name}: its weight is only known at run time")
        return ir.tensor(self.weight.value.numpy())


@dataclass(frozen=True)
class Refused:
    """A binding with a weight that is skipped, and why."""

    name: str
    op: str
    reason: str


def scoped_bindings(body: Any) -> list[tuple[int, Any]]:
    """(number of its binding block, binding) of all variable bindings, in order, with branches."""
    found: list[tuple[int, Any]] = []
    blocks = 0

    def walk(expr: Any) -> None:
        nonlocal blocks
        for block in getattr(expr, "blocks", ()):
            blocks += 1
            scope = blocks
            for binding in block.bindings:
                if isinstance(binding, relax.VarBinding):
                    found.append((scope, binding))
                    if isinstance(binding.value, relax.If):
                        walk(binding.value.true_branch)
                        walk(binding.value.false_branch)

    walk(body)
    return found


def find_uses(name: str, func: Any) -> tuple[list[Use], list[Refused]]:
    """The uses of weights in function ``name``, and bindings with weights that are refused."""
    found = scoped_bindings(func.body)
    bound = {binding.var: binding.value for _, binding in found}
    weights = _parameters(func)
    uses: list[Use] = []
    refused: list[Refused] = []
    for scope, binding in found:
        call = binding.value
        op = op_name(call)
        if op not in ("relax.matmul", "relax.take"):
            continue
        gathers = op == "relax.take"
        weight, transposed = _weight_of(call.args[0 if gathers else 1], bound, gathers)
        if not (is_constant(weight) or weight in weights):
            continue
        site = _site_name(name, weight, binding.var)
        reason = _refuse(call, weight, gathers)
        if reason:
            refused.append(Refused(site, op, reason))
        else:
            data = call.args[1 if gathers else 0]
            uses.append(Use(site, binding.var, data, weight, transposed, gathers, scope))
    return uses, refused


def _parameters(func: Any) -> list[Any]:
    if func.attrs is None or NUM_INPUT not in func.attrs:
        return []
    return list(func.params)[int(func.attrs[NUM_INPUT]) :]


def _weight_of(expr: Any, bound: dict[Any, Any], gathers: bool) -> tuple[Any, bool]:
    """The weight of an operand, and whether it is stored [K, N] (for a table: [N, K])."""
    transposed = not gathers
    while isinstance(expr, relax.Var) and expr in bound:
        value = bound[expr]
        if isinstance(value, relax.Var) or is_constant(value):
            expr = value
        elif _swaps(value) and not gathers:
            expr, transposed = value.args[0], not transposed
        else:
            break
    return expr, transposed


def _swaps(call: Any) -> bool:
    if op_name(call) != "relax.permute_dims":
        return False
    axes = call.attrs.axes
    return call.args[0].ty.ndim == 2 and (axes is None or [int(a) % 2 for a in axes] == [1, 0])


def _refuse(call: Any, weight: Any, gathers: bool) -> str | None:
    data = call.args[1 if gathers else 0].ty
    if weight.ty.dtype.dtype != "float32":
        return f"its weight is {weight.ty.dtype.dtype}, not float32"
    if weight.ty.ndim != 2:
        return f"its weight has {weight.ty.ndim} dimensions, not 2"
    if data.shape is None or (not gathers and data.ndim < 1):
        return "the shape of its input is not known"
    if not gathers:
        kind = data.dtype.dtype
        return None if kind == "float32" else f"its other operand is {kind}, not float32"
    axis = call.attrs.axis
    if axis is None or int(axis) != 0:
        return "it gathers along another axis than the rows"
    rows = int(weight.ty.shape[0])
    return "its table is too small to be worth it" if rows < SMALLEST_EMBEDDING_ROWS else None


def _site_name(function: str, weight: Any, var: Any) -> str:
    """The name of a parameter without the additions of frontends, else that of the binding."""
    if isinstance(weight, relax.Var):
        name = str(weight.name).removeprefix("p_")
        return name.removesuffix("weight").rstrip("._") or name
    return f"{function}.{var.name}"
