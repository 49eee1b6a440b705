"""Products of one activation become one: which ones, their name, and equal outputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import Arrays, assert_same, graph, meaning, op_types, random

from ladder.ir import facts
from ladder.ir.facts import Stacked
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.passes.stack_products import stack_name
from ladder.pipeline.report import kernel_rows, stack_notes

QKV = """g (float[3, 40] x) => (float[3, 10] q, float[3, 6] k, float[3, 7] v) {
    q = MatMul(x, "layer.q.weight")
    k = MatMul(x, "layer.k.weight")
    v = MatMul(x, "layer.v.weight")
}"""
QKV_WEIGHTS = {
    "layer.q.weight": random(40, 10, seed=1),
    "layer.k.weight": random(40, 6, seed=2),
    "layer.v.weight": random(40, 7, seed=3),
}
BIASED = """g (float[3, 40] x) => (float[3, 10] q, float[3, 6] k) {
    q = Gemm("x", "layer.q.weight", "q.bias")
    s = MatMul(x, "layer.k.weight")
    k = Add("k.bias", s)
}"""
BIASES = {"q.bias": random(10, seed=4), "k.bias": random(6, seed=5)}
FEEDS = {"x": random(3, 40, seed=6)}


def stacked(
    text: str, weights: Arrays, types: str = "type=int4:g8", stack: str = ",stack-products"
) -> ir.Model:
    model = ir.from_proto(graph(text, weights))
    pipeline = f"allocate-uniform{{{types}}},round-weights{{method=rtn}}{stack}"
    return run_passes(model, parse_pipeline(pipeline))


def fact(model: ir.Model) -> Stacked:
    found = facts.get(model, Stacked)
    assert found is not None
    return found


@pytest.mark.parametrize("type", ["int4:g8", "uint3:row:zp", "nf4:g16", "ternary:g8", "int1:row"])
@pytest.mark.parametrize(
    ("text", "weights"),
    [(QKV, QKV_WEIGHTS), (BIASED, QKV_WEIGHTS | BIASES)],
    ids=["plain", "biased"],
)
def test_the_meaning_stays(text: str, weights: Arrays, type: str) -> None:
    used = {name: array for name, array in weights.items() if name in text}
    one = stacked(text, used, f"type={type}")
    assert op_types(one).count("LowBitMatMul") == 1
    plain = stacked(text, used, f"type={type}", stack="")
    assert_same(meaning(one, FEEDS), meaning(plain, FEEDS))


def test_biases_are_stacked_where_all_have_one() -> None:
    used = {n: a for n, a in (QKV_WEIGHTS | BIASES).items() if n in BIASED}
    model = stacked(BIASED, used)
    assert op_types(model) == ["LowBitMatMul", "Add", "Split"]
    name = "layer.q+k"
    assert set(model.graph.initializers) == {
        f"{name}.{p}" for p in ("codes", "scale", "bias", "rows")
    }
    one = stacked(
        BIASED.replace('Add("k.bias", s)', "Relu(s)"), {n: used[n] for n in used if n != "k.bias"}
    )
    assert op_types(one) == ["LowBitMatMul", "Split", "Add", "Relu"]


def test_only_equal_types_are_stacked() -> None:
    model = stacked(QKV, QKV_WEIGHTS, "type=int4:g8,rules=layer.k=int2:g8")
    assert fact(model).sites == {"layer.q+v": ("layer.q", "layer.v")}
    assert fact(model).reasons == {"layer.k": "no other product of its activation has its type"}


@pytest.mark.parametrize("type", ["ternary:tensor", "int8:tensor", "fp4_e2m1:g16:e4m3"])
def test_scales_of_a_tensor_are_not_stacked(type: str) -> None:
    model = stacked(QKV, QKV_WEIGHTS, f"type={type}")
    assert not fact(model).sites
    reasons = set(fact(model).reasons.values())
    assert reasons == {f"{type} has one scale for the whole tensor"}
    assert stack_notes(model) == [
        "3 of the products that share an activation are computed alone (layer.q, ...): "
        f"{type} has one scale for the whole tensor"
    ]


def test_a_shared_weight_stays() -> None:
    text = """g (float[3, 40] x, float[3, 40] z)
        => (float[3, 10] q, float[3, 6] k, float[3, 7] v, float[3, 6] o) {
        q = MatMul(x, "layer.q.weight")
        k = MatMul(x, "layer.k.weight")
        v = MatMul(x, "layer.v.weight")
        o = MatMul(z, "layer.k.weight")
    }"""
    model = stacked(text, QKV_WEIGHTS)
    assert fact(model).sites == {"layer.q+v": ("layer.q", "layer.v")}
    assert fact(model).reasons == {"layer.k": "its weight has other users"}


def test_reports_name_every_site() -> None:
    model = stacked(QKV, QKV_WEIGHTS)
    run_passes(model, parse_pipeline("lower-types"))
    kernels = facts.get(model, facts.Kernels)
    assert kernels is not None and set(kernels.choices) == {"layer.q", "layer.k", "layer.v"}
    (row,) = kernel_rows(model, "x86-64", "main")
    assert (row["sites"], row["stack"], row["type"]) == (3, "q+k+v", "int4:g8")
    assert stack_notes(model) == []


def test_rows_keep_their_order() -> None:
    """The second output is the second weight's product, whatever their sizes."""
    weights = {"layer.q.weight": np.zeros((40, 10)), "layer.k.weight": np.ones((40, 6)),
               "layer.v.weight": np.full((40, 7), 2)}  # fmt: skip
    model = stacked(QKV, {n: a.astype(np.float32) for n, a in weights.items()}, "type=int8:row")
    q, k, v = meaning(model, {"x": np.ones((3, 40), np.float32)})
    assert not q.any()
    np.testing.assert_allclose(k, np.full((3, 6), 40), rtol=1e-5)
    np.testing.assert_allclose(v, np.full((3, 7), 80), rtol=1e-5)


@pytest.mark.parametrize(
    ("sites", "name"),
    [
        (["a.b.q", "a.b.k"], "a.b.q+k"),
        (["q_proj", "k_proj"], "q_proj+k_proj"),
        (["a.x.q", "a.y.q"], "a.x.q+y.q"),
        (["a.q", "a.q#2"], "a.q+q#2"),
    ],
)
def test_names(sites: list[str], name: str) -> None:
    assert stack_name(sites) == name
