"""TVM's own matrix products for llvm, with the plug-in loaded: the cases of its Relax tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import relax_modules as modules
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

SHAPES = [
    ((4,), (4,)),
    ((4,), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (5,)),
    ((16, 32), (32, 8)),
    ((2, 3, 4, 5), (6, 2, 3, 5, 7)),
    ((1, 3, 4, 5), (2, 1, 5, 7)),
]


def matmul(a: tuple[int, ...], b: tuple[int, ...]) -> Any:
    def build(builder: relax.BlockBuilder, x: Any, y: Any) -> Any:
        return builder.emit(relax.op.matmul(x, y))

    return modules.function(build, (a, "float32"), (b, "float32"))


@pytest.mark.parametrize("pipeline", ["default", "zero", "ladder"])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_products_of_inputs(a: tuple[int, ...], b: tuple[int, ...], pipeline: str) -> None:
    x, y = modules.array(*a), modules.array(*b, seed=1)
    mod = matmul(a, b)
    if pipeline == "zero":
        mod, pipeline = relax.get_pipeline("zero")(mod), "default"
    got = modules.run(mod, x, y, target="llvm", relax_pipeline=pipeline)
    np.testing.assert_allclose(got, np.matmul(x, y), rtol=1e-5, atol=1e-5)


def test_our_pipeline_gives_the_bits_of_tvm_where_nothing_is_low_bit() -> None:
    x, y = modules.array(16, 32), modules.array(32, 8)
    both = [
        modules.run(matmul((16, 32), (32, 8)), x, y, target="llvm", relax_pipeline=name)
        for name in ("default", "ladder")
    ]
    assert (both[0] == both[1]).all()


def test_legalization_is_that_of_tvm() -> None:
    @I.ir_module
    class Product:
        @R.function  # type: ignore[untyped-decorator]
        def main(
            x: R.Tensor((2, 3), "float32"),  # type: ignore[valid-type]
            y: R.Tensor((3, 4), "float32"),  # type: ignore[valid-type]
        ) -> R.Tensor((2, 4), "float32"):  # type: ignore[valid-type]
            gv: R.Tensor((2, 4), "float32") = R.matmul(x, y)  # type: ignore[valid-type]
            return gv

    with tvm.target.Target("llvm"):
        made = relax.transform.LegalizeOps()(Product)
    (func,) = (f for v, f in made.functions_items() if v.name_hint == "matmul")
    block = func.body.block.body
    while isinstance(block, tvm.tirx.For):
        block = block.body
    assert isinstance(block.block.init, tvm.tirx.BufferStore)
    assert "T.float32(0.0)" in block.block.init.script()
