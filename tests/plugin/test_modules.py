"""Modules of ``relax.frontend.nn``, and modules of several functions that share weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import relax_modules as modules
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from ladder.codegen.kernels.library import described
from ladder.plugin import transform as steps

KIND = "int4:g32"
UP, BIAS, DOWN = modules.array(160, 100), modules.array(160, seed=1), modules.array(70, 160, seed=2)
PARAMETERS = [UP, BIAS, DOWN]
X, ONE = modules.array(3, 100, seed=3), modules.array(1, 100, seed=4)


class Mlp(nn.Module):  # type: ignore[misc]
    """Two methods; both read the weight of ``up``."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(100, 160), nn.Linear(160, 70, bias=False)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.down(nn.op.silu(self.up(x)))

    def project(self, x: nn.Tensor) -> nn.Tensor:
        return self.up(x)


def exported(*methods: str) -> Any:
    shapes = {"forward": X.shape, "project": ONE.shape}
    spec = {name: {"x": nn.spec.Tensor(shapes[name], "float32")} for name in methods}
    mod, parameters = Mlp().export_tvm(spec=spec)
    assert [name for name, _ in parameters] == ["up.weight", "up.bias", "down.weight"]
    return mod.with_attr("ladder.type", KIND)


def machine(mod: Any) -> Any:
    executable = tvm.compile(mod, target="ladder/x86-64", relax_pipeline="ladder")
    return relax.VirtualMachine(executable, tvm.cpu())


def tensors(arrays: list[np.ndarray]) -> list[Any]:
    return [tvm.runtime.tensor(array) for array in arrays]


def by_parameters(vm: Any, name: str, x: np.ndarray) -> np.ndarray:
    packed = vm[f"{name}_transform_params"](tensors(PARAMETERS))
    result: np.ndarray = vm[name](tvm.runtime.tensor(x), *packed).numpy()
    return result


def by_constants(name: str, x: np.ndarray) -> np.ndarray:
    """The same function alone, its weights bound before it is compiled."""
    mod = exported(name)
    names = [str(p.name) for p in mod[name].params[1:]]
    bound = relax.transform.BindParams(name, dict(zip(names, PARAMETERS, strict=True)))(mod)
    result: np.ndarray = machine(bound)[name](tvm.runtime.tensor(x)).numpy()
    return result


def in_float(x: np.ndarray) -> np.ndarray:
    up = x @ UP.T + BIAS
    return np.asarray((up / (1 + np.exp(-up))) @ DOWN.T)


def kernels_of(mod: Any, name: str) -> list[str]:
    """The low-bit products that a lowered function calls."""
    found: list[str] = []

    def visit(expr: Any) -> None:
        if isinstance(expr, relax.Call) and getattr(expr.op, "name", "") == "relax.call_tir":
            kernel = described(mod[expr.args[0]])
            found.extend([kernel[0]] if kernel else [])

    relax.analysis.post_order_visit(mod[name], visit)
    return [op for op in found if op.endswith("_gemm")]


@pytest.mark.parametrize("methods", [("forward",), ("forward", "project"), ("project", "forward")])
def test_functions_of_a_module_give_the_bits_of_each_alone(methods: tuple[str, ...]) -> None:
    vm, inputs = machine(exported(*methods)), {"forward": X, "project": ONE}
    for name in methods:
        assert (by_parameters(vm, name, inputs[name]) == by_constants(name, inputs[name])).all()


def test_a_module_of_the_frontend_is_low_bit_and_close_to_floats() -> None:
    got, want = by_parameters(machine(exported("forward")), "forward", X), in_float(X)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert 1e-3 < error < 0.2  # as large as with four bits: neither float weights nor wrong ones


def two_functions(first: Callable[..., Any], second: Callable[..., Any]) -> Any:
    """A module of functions as TVMScript or a builder would write it, with weights inside."""
    mods = [modules.function(build, ((modules.M, 100), "float32")) for build in (first, second)]
    names = ("main", "other")
    funcs = {n: m["main"].with_attr("global_symbol", n) for n, m in zip(names, mods, strict=True)}
    return tvm.IRModule(funcs).with_attr("ladder.type", KIND)


def test_functions_with_constants_share_nothing_but_the_weight() -> None:
    weight = relax.const(UP)

    def product(builder: relax.BlockBuilder, x: Any) -> Any:
        return builder.emit(relax.op.matmul(x, builder.emit(relax.op.permute_dims(weight))))

    def doubled(builder: relax.BlockBuilder, x: Any) -> Any:
        return builder.emit(relax.op.add(product(builder, x), product(builder, x)))

    vm = machine(two_functions(product, doubled))
    x = modules.array(modules.M, 100)
    one = vm["main"](tvm.runtime.tensor(x)).numpy()
    two = vm["other"](tvm.runtime.tensor(x)).numpy()
    alone = modules.run(modules.product(UP).with_attr("ladder.type", KIND), x)
    assert (one == alone).all() and (two == alone + alone).all()


def test_each_function_calls_low_bit_kernels() -> None:
    mod = exported("forward", "project")
    transform: Any = steps  # TVM decorates the classes, and has no types
    with tvm.target.Target("ladder/x86-64"):
        lowered = transform.LowerTypes()(transform.RoundWeights()(mod))
    assert len(kernels_of(lowered, "forward")) == 2 and len(kernels_of(lowered, "project")) == 1
