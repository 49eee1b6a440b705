"""Lowering of muxed and static sites: the facts become operators, or a reason is given."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, meaning, op_types, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.facts import Kernels, MuxedSite, Muxing, StaticScales
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes

TWO = """g (float[3, 40] x) => (float[3, 10] y, float[3, 6] z) {
  y = MatMul(x, "a.weight")
  z = MatMul(x, "b.weight")
}"""
CHANNELS = (3, 17)


def lowered(type: str, options: str, *found: object, text: str = TWO, stack: str = "") -> ir.Model:
    weights = {"a.weight": random(40, 10), "b.weight": random(40, 6)}
    model = ir.from_proto(graph(text, weights))
    for fact in found:
        facts.put(model, fact)
    passes = f"allocate-uniform{{type={type}}},round-weights{{method=rtn}},{stack}lower-types"
    return run_passes(model, parse_pipeline(passes + options))


def muxing(a: str = "digits6", b: str = "digits6") -> Muxing:
    return Muxing({"a": MuxedSite(a, CHANNELS), "b": MuxedSite(b, CHANNELS)})


def spiky() -> dict[str, np.ndarray]:
    x = random(3, 40, seed=1)
    x[:, CHANNELS] *= 40
    return {"x": x}


def reasons(model: ir.Model) -> dict[str, str]:
    kernels = facts.get(model, Kernels)
    assert kernels is not None
    return {site: choice.reason for site, choice in kernels.choices.items()}


@pytest.mark.parametrize("type", ["int8:row", "uint4:g16:zp"])
@pytest.mark.parametrize("scheme", ["lut", "dot"])
def test_a_muxed_site_gives_nearly_the_same(type: str, scheme: str) -> None:
    model = lowered(type, f"{{activation=int8:tensor,scheme={scheme}}}", muxing())
    assert op_types(model) == ["MuxActivation", "MuxGemm", "MuxGemm"]
    assert reasons(model)["a"].startswith("2 outlier channels muxed (digits6)")
    exact = meaning(lowered(type, "{activation=fp32}"), spiky())
    plain = meaning(lowered(type, "{activation=int8:tensor}"), spiky())
    for got, naive, wanted in zip(meaning(model, spiky()), plain, exact, strict=True):
        error = np.abs(got - wanted).max()
        assert error <= 0.002 * np.abs(wanted).max() and 8 * error < np.abs(naive - wanted).max()


def test_one_sum_over_all_of_k_where_one_scale_holds() -> None:
    model = lowered("int8:row", "{activation=int6:token}")
    overloads = [node.overload for node in model.graph]
    assert overloads[0] == "int6:token:k40" and overloads[-1].endswith("int8:row@k40")


def test_static_scales_come_from_calibration() -> None:
    found = StaticScales({"a": 0.02, "b": 0.02})
    model = lowered("int8:row", "{activation=int8:static}", found)
    quantize = model.graph[0]
    scale = quantize.inputs[1]
    assert scale is not None and scale.const_value is not None
    assert scale.const_value.numpy().tolist() == [np.float32(0.02)]
    assert op_types(model).count("QuantizeActivation") == 1
    feeds = {"x": random(3, 40, seed=1)}
    exact = meaning(lowered("int8:row", "{activation=fp32}"), feeds)
    np.testing.assert_allclose(meaning(model, feeds)[0], exact[0], atol=0.6)


def test_a_static_mode_without_calibration_is_refused() -> None:
    with pytest.raises(LadderError, match="site a: int8:static needs a calibrated scale"):
        lowered("int8:row", "{activation=int8:static}")


def test_what_cannot_be_muxed_has_a_reason() -> None:
    model = lowered("nf4:g8", "{activation=int8:token}", muxing())
    assert "MuxGemm" not in op_types(model)
    assert reasons(model)["a"].startswith("not muxed: nf4 is a code book")
    model = lowered("int4:g8", "{activation=int4}", muxing("digits6", "digits3"))
    assert reasons(model)["a"].startswith("not muxed: a low digit of digits6 does not fit int4")
    assert reasons(model)["b"].startswith("2 outlier channels muxed")


def test_stacked_sites_are_muxed_in_the_same_way_or_not_at_all() -> None:
    model = lowered("int8:row", "{activation=int8:token}", muxing(), stack="stack-products,")
    assert op_types(model).count("MuxGemm") == 1
    exact = meaning(lowered("int8:row", "{activation=fp32}"), spiky())
    for got, wanted in zip(meaning(model, spiky()), exact, strict=True):
        assert np.abs(got - wanted).max() <= 0.002 * np.abs(wanted).max()
