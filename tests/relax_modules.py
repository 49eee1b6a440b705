"""Relax modules for the plug-in's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

M, K, N = 3, 100, 160


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def function(build: Callable[..., Any], *inputs: tuple[Any, str], num_input: int = 0) -> Any:
    """A module whose ``main`` is ``build(builder, *inputs)`` in one dataflow block."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(s, t)) for i, (s, t) in enumerate(inputs)]
    with builder.function("main", params, attrs={"num_input": num_input} if num_input else None):
        with builder.dataflow():
            out = builder.emit_output(build(builder, *params))
        builder.emit_func_output(out)
    return builder.get()


def product(weight: np.ndarray, rows: Any = M, swapped: bool = True) -> Any:
    """x @ weight.T, or x @ weight."""

    def build(builder: relax.BlockBuilder, x: Any) -> Any:
        w = relax.const(weight)
        if swapped:
            w = builder.emit(relax.op.permute_dims(w))
        return builder.emit(relax.op.matmul(x, w))

    k = weight.shape[1 if swapped else 0]
    return function(build, ((rows, k), "float32"))


def run(mod: Any, *inputs: np.ndarray, target: Any = "ladder/x86-64", **options: Any) -> np.ndarray:
    executable = tvm.compile(mod, target=target, **{"relax_pipeline": "ladder", **options})
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result: np.ndarray = machine["main"](*(tvm.runtime.tensor(x) for x in inputs)).numpy()
    return result


def calls(mod: Any) -> list[str]:
    """The operators that ``main`` calls, in order."""
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    return [str(b.value.op.name) for b in bindings if hasattr(getattr(b.value, "op", None), "name")]
