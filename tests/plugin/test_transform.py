"""The steps one by one: their results, and that every module stays well formed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import relax_modules as modules
import tvm
from tvm import relax

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.pipeline.plan_file import Plan, write_plan
from ladder.plugin import operator_names, operators
from ladder.plugin import transform as passes
from ladder.plugin.model import round_array
from ladder.plugin.rounding import REPORT

transform: Any = passes  # TVM decorates the classes, and has no types
KIND = "int4:g32"
WEIGHT = modules.array(modules.N, modules.K)


def low_bit(type: str = KIND, rounding: str = "mse") -> Any:
    """The operands that rounding must make of ``modules.product(WEIGHT)``."""
    operands = round_array(WEIGHT, type, rounding, False, "any")

    def build(builder: relax.BlockBuilder, x: Any) -> Any:
        weight = [relax.const(a) for a in operands]
        kind = DType.parse(type)
        name = "main.lv1"
        n, k = WEIGHT.shape
        call = operators.low_bit(operator_names.MATMUL, x, weight, kind, n, k, name)
        return builder.emit(call)

    return modules.function(build, ((modules.M, modules.K), "float32"))


def body(mod: Any) -> Any:
    return mod["main"].without_attr("global_symbol")


def test_a_product_becomes_the_low_bit_operator() -> None:
    made = transform.RoundWeights(type=KIND)(modules.product(WEIGHT))
    assert relax.analysis.well_formed(made) in (None, True)
    tvm.ir.assert_structural_equal(body(made), body(low_bit()))


@pytest.mark.parametrize("rounding", ["rtn", "mse"])
def test_options_come_from_the_attributes_of_the_module(rounding: str) -> None:
    mod = modules.product(WEIGHT).with_attr("ladder.type", "int2:g64")
    made = transform.RoundWeights()(mod.with_attr("ladder.rounding", rounding))
    tvm.ir.assert_structural_equal(body(made), body(low_bit("int2:g64", rounding)))


def test_a_weight_stored_the_other_way_is_the_same_product() -> None:
    swapped = modules.product(np.ascontiguousarray(WEIGHT.T), swapped=False)
    x = modules.array(modules.M, modules.K)
    options = [m.with_attr("ladder.type", KIND) for m in (swapped, modules.product(WEIGHT))]
    one, other = (modules.run(mod, x) for mod in options)
    assert (one == other).all()


def test_products_of_one_activation_share_its_codes() -> None:
    def build(builder: relax.BlockBuilder, x: Any) -> Any:
        parts = [modules.array(64, modules.K, seed=seed) for seed in (1, 2)]
        turned = [builder.emit(relax.op.permute_dims(relax.const(w))) for w in parts]
        a, b = (builder.emit(relax.op.matmul(x, w)) for w in turned)
        return builder.emit(relax.op.add(a, b))

    mod = modules.function(build, ((modules.M, modules.K), "float32"))
    steps = [transform.RoundWeights(type=KIND), transform.LowerTypes(level="x86-64", scheme="dot")]
    made = tvm.transform.Sequential(steps)(mod)
    assert relax.analysis.well_formed(made) in (None, True)
    names = [v.name_hint for v in made.get_global_vars() if v.name_hint != "main"]
    assert sorted(n.split("_b4")[0].split("_int8")[0] for n in names) == [
        "dot_gemm_portable",
        "quantize_activation",
    ]
    assert modules.calls(made).count("relax.call_tir") == 3


def test_skipped_weights_are_reported() -> None:
    half = modules.array(64, modules.K).astype(np.float16)

    def build(builder: relax.BlockBuilder, x: Any, y: Any) -> Any:
        a = builder.emit(relax.op.matmul(x, relax.const(WEIGHT.T.copy())))
        b = builder.emit(relax.op.matmul(y, relax.const(half.T.copy())))
        return builder.emit(relax.Tuple([a, b]))

    shape = (modules.M, modules.K)
    mod = modules.function(build, (shape, "float32"), (shape, "float16"))
    made = transform.RoundWeights(type=KIND)(mod)
    assert modules.calls(made) == [operator_names.MATMUL, "relax.matmul"]
    assert "float16, not float32" in str(made.attrs[REPORT])


def test_without_our_lowering_tvm_decodes_the_weights() -> None:
    x = modules.array(modules.M, modules.K)
    made = transform.RoundWeights(type=KIND)(modules.product(WEIGHT))
    wanted = modules.run(made.with_attr("ladder.activation", "fp32"), x)
    got = modules.run(made, x, target="llvm", relax_pipeline="default")
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mode", ["int8", "table8", "fp32"])
def test_sizes_that_are_only_known_at_run_time(mode: str) -> None:
    x = modules.array(modules.M, modules.K)
    results = []
    for rows in (modules.M, tvm.tirx.Var("m", "int64")):
        mod = modules.product(WEIGHT, rows).with_attr("ladder.activation", mode)
        results.append(modules.run(mod.with_attr("ladder.scheme", "auto"), x))
    assert (results[0] == results[1]).all()


def test_bad_options_give_a_one_line_error() -> None:
    with pytest.raises(LadderError, match="unknown option 'typ'; valid options are: activation"):
        transform.RoundWeights(typ="int4")
    mod = modules.product(WEIGHT)
    with pytest.raises(LadderError, match="int9"):
        transform.RoundWeights()(mod.with_attr("ladder.type", "int9"))
    with pytest.raises(LadderError, match="matches no site"):
        transform.RoundWeights(keep="lm_head")(mod)


def test_a_decomposed_normalization_becomes_one_operator() -> None:
    def build(builder: relax.BlockBuilder, x: Any) -> Any:
        squares = builder.emit(relax.op.multiply(x, x))
        mean = builder.emit(relax.op.mean(squares, axis=[-1], keepdims=True))
        moved = builder.emit(relax.op.add(mean, relax.const(1e-5, "float32")))
        normal = builder.emit(relax.op.multiply(builder.emit(relax.op.rsqrt(moved)), x))
        return builder.emit(relax.op.multiply(relax.const(WEIGHT[0]), normal))

    def whole(builder: relax.BlockBuilder, x: Any) -> Any:
        epsilon = float(np.float32(1e-5))
        return relax.op.nn.rms_norm(x, relax.const(WEIGHT[0]), [-1], epsilon)

    shape = ((modules.M, modules.K), "float32")
    made = transform.FuseOperators()(modules.function(build, shape))
    tvm.ir.assert_structural_equal(body(made), body(modules.function(whole, shape)))
    lowered = transform.LowerOperators()(made)
    assert relax.analysis.well_formed(lowered) in (None, True)
    assert modules.calls(lowered) == ["relax.call_tir"]


def test_a_plan_with_other_names_is_used_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "plan.toml"
    write_plan(file, Plan("a.onnx", "0" * 64, {"up": DType.parse("int2:g64")}))
    with caplog.at_level(logging.WARNING, "ladder.plugin"):
        made = transform.RoundWeights()(modules.product(WEIGHT).with_attr("ladder.plan", str(file)))
    assert "used in order" in caplog.text
    tvm.ir.assert_structural_equal(body(made), body(low_bit("int2:g64")))
    write_plan(
        file,
        Plan("a.onnx", "0" * 64, {"up": DType.parse("int2:g64"), "down": DType.parse("int8:row")}),
    )
    with pytest.raises(LadderError, match="names sites that are not in the model"):
        transform.RoundWeights(plan=str(file))(modules.product(WEIGHT))
