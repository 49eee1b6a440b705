"""Products with chosen experts: one kernel, which reads no other expert."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import graph, random

from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.gather_experts import GatherExperts
from ladder.passes.infra.patterns import Rule
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.passes.split_experts import SplitExperts
from ladder.pipeline.phases import lower
from ladder.reference import Reference

pytestmark = pytest.mark.kernels
EXPERTS, K = 4, 32
WEIGHT = "mlp.experts.down_proj"


def chosen_experts(n: int) -> ir.Model:
    text = f"""g (float[6, {K}] x, float[6] numbers) => (float[6, {n}] y) {{
      one = Constant <value_ints = [1]> ()
      last = Constant <value_ints = [2]> ()
      chosen = Cast <to = 7> (numbers)
      index = Unsqueeze(chosen, one)
      weight = GatherND <batch_dims = 0> ("{WEIGHT}", index)
      column = Unsqueeze(x, last)
      product = MatMul(weight, column)
      y = Squeeze(product, last)
    }}"""
    made: ir.Model = ir.from_proto(graph(text, {WEIGHT: random(EXPERTS, n, K)}))
    run_passes(made, [GatherExperts()])
    return made


@pytest.mark.parametrize("type", ["int4:g32", "uint3:row:zp", "nf4:g32", "int8:row"])
@pytest.mark.parametrize(("n", "kernel"), [(128, "expert_gemm"), (72, "gather")])
def test_the_product_of_chosen_experts(type: str, n: int, kernel: str) -> None:
    """Experts that do not fill whole tiles are gathered."""
    model = chosen_experts(n)
    run_passes(model, [AllocateUniform(DType.parse(type)), RoundWeights()])
    feeds = {"x": random(6, K), "numbers": np.array([3, 0, 0, 2, 3, 1], np.float32)}
    wanted = Reference(facts.clone(model)).run(feeds)["y"]
    run_passes(model, lower(CompileOptions(activation="fp32"), ""))
    found = run_compiled(model, HERE[-1], feeds)
    assert any(name.startswith(kernel) for name in found.kernels), found.kernels
    np.testing.assert_allclose(found.outputs[0], wanted, rtol=1e-5, atol=1e-5)


def test_experts_of_several_types() -> None:
    """Each type has its kernel, which reads the experts of that type alone."""
    named = WEIGHT.replace("experts.", "experts.2.")
    model = run_passes(chosen_experts(128), [SplitExperts((named,))])
    rules = (Rule.parse(f"{named}=int8:row"),)
    run_passes(model, [AllocateUniform(DType.parse("int4:g32"), rules=rules), RoundWeights()])
    feeds = {"x": random(6, K), "numbers": np.array([3, 0, 0, 2, 3, 1], np.float32)}
    wanted = Reference(facts.clone(model)).run(feeds)["y"]
    run_passes(model, lower(CompileOptions(activation="fp32"), ""))
    found = run_compiled(model, HERE[-1], feeds)
    assert sum(name.startswith("expert_gemm") for name in found.kernels) == 2
    np.testing.assert_allclose(found.outputs[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_number_that_no_expert_has_is_refused() -> None:
    model = chosen_experts(128)
    run_passes(model, [AllocateUniform(DType.parse("int8:row")), RoundWeights()])
    run_passes(model, lower(CompileOptions(activation="fp32"), ""))
    feeds = {"x": random(6, K), "numbers": np.array([3, 0, 4, 2, 3, 1], np.float32)}
    with pytest.raises(Exception, match="an index is outside an axis of 4"):
        run_compiled(model, HERE[-1], feeds)


def test_numbers_of_experts_that_others_read_too() -> None:
    """The weights of the chosen experts are an output as well, so they are gathered."""
    model = chosen_experts(128)
    (gather,) = (node for node in model.graph if node.op_type == "Gather")
    model.graph.outputs.append(gather.outputs[0])
    run_passes(model, [AllocateUniform(DType.parse("int8:row")), RoundWeights()])
    run_passes(model, lower(CompileOptions(activation="fp32"), ""))
    feeds = {"x": random(6, K), "numbers": np.array([3, 0, 0, 2, 3, 1], np.float32)}
    found = run_compiled(model, HERE[-1], feeds)
    assert not any(name.startswith("expert_gemm") for name in found.kernels)
