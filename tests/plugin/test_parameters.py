"""Weights that are parameters: rounded and packed by NAME_transform_params."""

from __future__ import annotations

from typing import Any

import relax_modules as modules
import tvm
from tvm import relax

WEIGHT = modules.array(modules.N, modules.K)


def with_parameter() -> Any:
    def build(builder: relax.BlockBuilder, x: Any, w: Any) -> Any:
        return builder.emit(relax.op.matmul(x, builder.emit(relax.op.permute_dims(w))))

    shapes = [((modules.M, modules.K), "float32"), ((modules.N, modules.K), "float32")]
    return modules.function(build, *shapes, num_input=1)


def test_a_parameter_gives_the_bits_of_a_constant() -> None:
    x = modules.array(modules.M, modules.K)
    for kind in ("uint4:g32:zp", "nf4:g64:fp16"):
        mod = with_parameter().with_attr("ladder.type", kind)
        executable = tvm.compile(mod, target="ladder/x86-64", relax_pipeline="ladder")
        machine = relax.VirtualMachine(executable, tvm.cpu())
        packed = machine["main_transform_params"]([tvm.runtime.tensor(WEIGHT)])
        assert WEIGHT.nbytes > 2 * sum(p.numpy().nbytes for p in packed)
        got = machine["main"](tvm.runtime.tensor(x), *packed).numpy()
        constant = modules.product(WEIGHT).with_attr("ladder.type", kind)
        assert (got == modules.run(constant, x)).all()


def test_an_input_is_not_a_weight() -> None:
    def build(builder: relax.BlockBuilder, x: Any, y: Any) -> Any:
        return builder.emit(relax.op.matmul(x, y))

    shapes = [((modules.M, modules.K), "float32"), ((modules.K, modules.N), "float32")]
    mod = modules.function(build, *shapes)
    x, y = modules.array(modules.M, modules.K), modules.array(modules.K, modules.N, seed=1)
    want = modules.run(mod, x, y, target="llvm", relax_pipeline="default")
    assert (modules.run(mod, x, y, target="llvm") == want).all()
