"""What each pass does, as text: before and after on tiny graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import Arrays, graph

from ladder.ir.dump import dump_text
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes

Golden = Callable[[str], None]


def ones(*shape: int) -> np.ndarray:
    """Weights that every type holds exactly, so that no golden text has a rounding error."""
    return np.ones(shape, np.float32)


def ran(pipeline: str, text: str, weights: Arrays, opset: int = 21) -> str:
    """Before, the pipeline, after."""
    model = ir.from_proto(graph(text, weights, opset))
    before = dump_text(model)
    run_passes(model, parse_pipeline(pipeline))
    return f"{before}\n--> {pipeline}\n\n{dump_text(model)}"


SHAPES = """g (float[2, 6] x) => (float[3, 4] y, float[3, 4] z) {
    s = Shape(x)
    two = Constant<value = int64[2] {2, 2}>()
    three = Constant<value = int64[2] {1, 8}>()
    d = Div(s, two)
    t = Add(d, three)
    m = Mul(t, two)
    half = Div(m, two)
    four = Constant<value = int64[2] {3, 4}>()
    r = Reshape(x, four)
    i = Identity(r)
    dead = Relu(half)
    y = Relu(i)
    z = Relu(r)
}"""


def test_clean_up(golden: Golden) -> None:
    """Shape arithmetic is removed, and so are Identity, the dead Relu and the repeated one."""
    golden(ran("clean-up", SHAPES, {}))


def test_clean_up_keeps_a_transposed_weight(golden: Golden) -> None:
    text = "g (float[M, 4] x) => (float[M, 2] y) { t = Transpose(w) y = MatMul(x, t) }"
    golden(ran("clean-up", text, {"w": ones(2, 4)}))


NORM = """g (float[M, 8] x) => (float[M, 8] y) {
    two = Constant<value = float {2.}>()
    axis = Constant<value = int64[1] {-1}>()
    square = Pow(x, two)
    mean = ReduceMean<keepdims = 1, noop_with_empty_axes = 0>(square, axis)
    eps = Constant<value = float {0.00001}>()
    sum = Add(mean, eps)
    root = Sqrt(sum)
    inverse = Reciprocal(root)
    normal = Mul(x, inverse)
    y = Mul(normal, scale)
}"""


def test_fuse_normalization(golden: Golden) -> None:
    golden(ran("fuse-operators", NORM, {"scale": ones(8)}, opset=24))


def test_fuse_leaves_older_opsets(golden: Golden) -> None:
    golden(ran("fuse-operators", NORM, {"scale": ones(8)}, opset=21))


SITES = """g (float[M, 64] x, int64[M] i) => (float[M, 8] y, float[M, 8] z, float[M, 64] e) {
    a = MatMul(x, "fc1.weight")
    y = Gemm<transB = 1>(a, "fc2.weight", bias)
    z = MatMul(a, a3)
    e = Gather(table, i)
}"""
SITE_WEIGHTS = {
    "fc1.weight": ones(64, 8),
    "fc2.weight": ones(8, 8),
    "bias": ones(8),
    "a3": ones(1, 8, 8),
    "table": ones(32, 64),
}


def test_allocate_uniform(golden: Golden) -> None:
    golden(ran("allocate-uniform{type=int4:g32,keep=fc2}", SITES, SITE_WEIGHTS))


def test_round_weights(golden: Golden) -> None:
    """MatMul, Gemm with its bias, Gather; the float weights are removed, the refused one stays."""
    golden(ran("allocate-uniform{type=uint4:g32:zp},round-weights", SITES, SITE_WEIGHTS))


TIED = """g (float[M, 32] x, int64[M] i) => (float[M, 32] e, float[M, 32] y, float[M, 32] z) {
    e = Gather("embed_tokens.weight", i)
    t = Transpose<perm = [1, 0]>("embed_tokens.weight")
    y = MatMul(x, t)
    z = MatMul(e, t)
}"""


def test_tied_weights_are_rounded_once(golden: Golden) -> None:
    weights = {"embed_tokens.weight": ones(32, 32)}
    golden(ran("allocate-uniform{type=int4:g32},round-weights{method=rtn}", TIED, weights))


OPEN = """g (float[batch, tokens, 4] x) => (float[batch, R] y) {
    batch = Shape<start = 0, end = 1>(x)
    rest = Constant<value_ints = [-1]>()
    s = Concat<axis = 0>(batch, rest)
    y = Reshape(x, s)
}"""


def test_bind_shapes(golden: Golden) -> None:
    """What becomes constant is folded; constants become initializers."""
    golden(ran("bind-shapes{dims=batch:2/tokens:3}", OPEN, {}))


TWO = """g (float[1, M, 64] x) => (float[1, M, 8] p, float[1, M, 8] q, float[1, M, 8] r) {
    p = MatMul(x, "q_proj.weight")
    q = MatMul(x, "k_proj.weight")
    h = Neg(x)
    r = MatMul(h, "v_proj.weight")
}"""
TWO_WEIGHTS = {f"{n}_proj.weight": ones(64, 8) for n in "qkv"}
ROUNDED = "allocate-uniform{type=uint4:g32:zp},round-weights{method=rtn}"


@pytest.mark.parametrize(
    "lower",
    ["scheme=lut", "scheme=dot", "activation=table8"],
    ids=["lut", "dot", "table8"],
)
def test_lower_types(lower: str, golden: Golden) -> None:
    """q and k share the quantized x; v has its own."""
    golden(ran(f"{ROUNDED},lower-types{{{lower}}}", TWO, TWO_WEIGHTS))


def test_lower_types_of_a_code_book(golden: Golden) -> None:
    """Every rung of the weight is shown: planes, padding, layout, code book."""
    text = 'g (float[2, 64] x) => (float[2, 8] y) { y = MatMul(x, "fc.weight") }'
    rounded = "allocate-uniform{type=fp4_e2m1:g32:e8m0},round-weights{method=rtn}"
    golden(ran(f"{rounded},lower-types{{stop=repack}}", text, {"fc.weight": ones(64, 8)}))


STACK_WEIGHTS = {
    "layer.q_proj.weight": ones(64, 12),
    "layer.k_proj.weight": ones(64, 4),
    "v_proj.weight": ones(64, 8),
}


def test_stack_products(golden: Golden) -> None:
    """q and k become one product; v has an activation of its own."""
    text = """g (float[1, M, 64] x) => (float[1, M, 12] p, float[1, M, 4] q, float[1, M, 8] r) {
        p = MatMul(x, "layer.q_proj.weight")
        k = MatMul(x, "layer.k_proj.weight")
        q = Relu(k)
        h = Neg(x)
        r = MatMul(h, "v_proj.weight")
    }"""
    golden(ran(f"{ROUNDED},stack-products,lower-types{{scheme=dot}}", text, STACK_WEIGHTS))


@pytest.mark.parametrize(("tokens", "op"), [(1, "LutGemm"), (3, "LutGemm"), (4, "DotGemm")])
def test_auto_scheme_depends_on_tokens(tokens: int, op: str) -> None:
    text = ran(f"{ROUNDED},bind-shapes{{dims=M:{tokens}}},lower-types", TWO, TWO_WEIGHTS)
    after = text.split("-->")[1]
    assert after.count(f"ladder.{op}[") == 3
    assert after.count("ladder.QuantizeActivation[k32]") == 2
    assert after.count("ladder.TabulateActivation[k32]") == (2 if op == "LutGemm" else 0)


def test_open_dimensions_take_the_dot_scheme() -> None:
    text = ran(f"{ROUNDED},lower-types", TWO, TWO_WEIGHTS)
    assert text.count("ladder.DotGemm[") == 3
