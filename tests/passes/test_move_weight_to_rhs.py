"""A constant that is first in a product becomes a site; the outputs stay."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from small_graphs import assert_same, checked, graph, op_types, random, stock

from ladder.ir.site import find_sites
from ladder.passes.clean_up import CleanUp
from ladder.passes.infra.runner import run_passes

# Text -> number of Transposes in addition to the weight's.
FORMS = {
    "g (float[2, 32, 5] x) => (float[2, 48, 5] y) { y = MatMul(w, x) }": 2,
    "g (float[32, 5] x) => (float[48, 5] y) { y = MatMul(w, x) }": 2,
    """g (float[2, 5, 32] a) => (float[2, 48, 5] y) {
        x = Transpose<perm=[0, 2, 1]>(a)
        y = MatMul(w, x)
    }""": 1,
    """g (float[2, 5, 32] a) => (float[2, 5, 48] z) {
        x = Transpose<perm=[0, 2, 1]>(a)
        y = MatMul(w, x)
        z = Transpose<perm=[0, 2, 1]>(y)
    }""": 2,
}


@pytest.mark.parametrize("text", FORMS)
def test_the_weight_comes_second(text: str) -> None:
    proto = graph(text, {"w": random(48, 32)})
    feeds = {proto.graph.input[0].name: random(2, 5, 32, seed=1)}
    if "x" in feeds:
        feeds["x"] = random(*(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim))
    wanted = stock(ir.from_proto(proto), feeds)
    model = run_passes(ir.from_proto(proto), [CleanUp()])
    checked(model)
    (site,) = find_sites(model)[0]
    assert (site.n, site.k) == (48, 32) and (site.array() == random(48, 32)).all()
    assert op_types(model).count("Transpose") == FORMS[text] + 1
    assert_same(stock(model, feeds), wanted)
    once = op_types(model)
    assert op_types(run_passes(model, [CleanUp()])) == once


@pytest.mark.parametrize("operands", ["w, v", "x, x", "x, w"])
def test_others_stay(operands: str) -> None:
    text = f"g (float[32, 32] x) => (float[32, 32] y) {{ h = MatMul({operands}) y = Add(h, x) }}"
    weights = {name: random(32, 32) for name in "wv" if name in operands}
    model = run_passes(ir.from_proto(graph(text, weights)), [CleanUp()])
    assert op_types(model).count("Transpose") == 0
