"""Kernels that also compute the nodes before or after a product give the same bits.

A graph whose intermediate values are also outputs keeps its operators apart, because a value with
other readers is not fused.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import Graph, run_compiled
from kernel_cases import HERE
from small_graphs import Arrays, graph, random

from ladder.hardware.targets import Level
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes

pytestmark = pytest.mark.kernels

LEVELS_HERE = pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
K, N = 83, 70  # not multiples of vectors or tiles
OPSET = 23
PRODUCERS = {
    "rms_norm": "a = RMSNormalization<epsilon = 0.00001>(x, norm)",
    "gate": "s = Sigmoid(x) h = Mul(s, x) a = Mul(u, h)",
}
WEIGHTS = {
    "fc.weight": random(K, N, seed=1),
    "norm": random(K, seed=2),
    "bias": random(N, seed=3),
}
# producer, tokens, activation mode, scheme, part of the kernel's name
PRODUCED = [
    ("rms_norm", 1, "int8", "lut", "_tables"),
    ("rms_norm", 3, "int2", "dot", "_parallel"),
    ("rms_norm", 3, "table8", "auto", "_parallel"),
    ("gate", 1, "table8", "auto", "_k32"),
    ("gate", 3, "int8", "dot", "_parallel"),
    ("gate", 1, "int4", "lut", "_tables"),
]


def lowered(text: str, weights: Arrays, options: str, type: str = "int4:g32") -> ir.Model:
    used = {name: array for name, array in weights.items() if name in text}
    pipeline = f"allocate-uniform{{type={type}}},round-weights{{method=rtn}},stack-products"
    model = ir.from_proto(graph(text, used, OPSET))
    return run_passes(model, parse_pipeline(f"{pipeline},lower-types{{{options}}}"))


def both(
    head: str, out: str, apart: str, body: str, weights: Arrays, options: str, level: Level,
    feeds: Arrays,
) -> tuple[Graph, Graph]:  # fmt: skip
    """The graph as it is, and with the intermediate values ``apart`` as outputs after ``out``."""
    texts = [f"g ({head}) => ({outputs}) {{ {body} }}" for outputs in (out, f"{out}, {apart}")]
    first, second = (run_compiled(lowered(text, weights, options), level, feeds) for text in texts)
    return first, second


@LEVELS_HERE
@pytest.mark.parametrize(("producer", "m", "mode", "scheme", "named"), PRODUCED)
def test_producers(level: Level, producer: str, m: int, mode: str, scheme: str, named: str) -> None:
    x, u = random(m, K, seed=4), random(m, K, seed=5) * 3
    x[:, ::7] *= 20
    fused, apart = both(
        f"float[{m}, {K}] x, float[{m}, {K}] u",
        f"float[{m}, {N}] y",
        f"float[{m}, {K}] a",
        f'{PRODUCERS[producer]} y = MatMul(a, "fc.weight")',
        WEIGHTS,
        f"activation={mode},scheme={scheme}",
        level,
        {"x": x, "u": u},
    )
    base = "table8" if mode == "table8" else f"quantize_activation_{mode}"
    assert any(k.startswith(f"{producer}_{base}") and named in k for k in fused.kernels)
    assert not any(k.startswith(f"{producer}_{base}") for k in apart.kernels)
    np.testing.assert_array_equal(fused.outputs[0], apart.outputs[0])


@LEVELS_HERE
@pytest.mark.parametrize(("m", "gate_first"), [(1, True), (5, False)])
def test_gate_and_up_as_one_product(level: Level, m: int, gate_first: bool) -> None:
    weights = {"up.weight": random(24, K, seed=1), "gate.weight": random(24, K, seed=2),
               "fc.weight": random(K, N, seed=3)}  # fmt: skip
    products = ['g = MatMul(x, "gate.weight")', 'u = MatMul(x, "up.weight")']
    ordered = " ".join(products if gate_first else reversed(products))
    fused, apart = both(
        f"float[{m}, 24] x",
        f"float[{m}, {N}] y",
        f"float[{m}, {K}] a",
        f'{ordered} s = Sigmoid(g) h = Mul(g, s) a = Mul(h, u) y = MatMul(a, "fc.weight")',
        weights,
        "scheme=lut",
        level,
        {"x": random(m, 24, seed=4) * 4},
    )
    name = "gate_up" if gate_first else "up_gate"
    assert any(k.startswith(f"{name}_quantize_activation") for k in fused.kernels)
    assert not any("slice" in k for k in fused.kernels)
    np.testing.assert_array_equal(fused.outputs[0], apart.outputs[0])


@LEVELS_HERE
@pytest.mark.parametrize(
    ("scheme", "m", "adds", "suffix"),
    [
        ("lut", 1, "y = Add(p, bias)", "_bias"),
        ("dot", 3, "y = Add(r, p)", "_residual"),
        ("dot", 1, "b = Add(bias, p) y = Add(b, r)", "_bias_residual"),
    ],
)
def test_additions(level: Level, scheme: str, m: int, adds: str, suffix: str) -> None:
    fused, apart = both(
        f"float[1, {m}, {K}] x, float[1, {m}, {N}] r",
        f"float[1, {m}, {N}] y",
        f"float[1, {m}, {N}] p",
        f'p = MatMul(x, "fc.weight") {adds}',
        WEIGHTS,
        f"scheme={scheme}",
        level,
        {"x": random(1, m, K, seed=4), "r": random(1, m, N, seed=5)},
    )
    assert any(k.endswith(suffix) and f"{scheme}_gemm" in k for k in fused.kernels)
    assert not any("add" in k for k in fused.kernels)
    assert not any(k.endswith(suffix) for k in apart.kernels)
    np.testing.assert_array_equal(fused.outputs[0], apart.outputs[0])


@LEVELS_HERE
def test_a_broadcast_addend_is_not_fused(level: Level) -> None:
    """One number per token does not fit the store of a product."""
    body = 'p = MatMul(x, "fc.weight") y = Add(p, c)'
    text = f"g (float[3, {K}] x, float[3, 1] c) => (float[3, {N}] y) {{ {body} }}"
    feeds = {"x": random(3, K, seed=4), "c": random(3, 1, seed=5)}
    got = run_compiled(lowered(text, WEIGHTS, "scheme=dot"), level, feeds)
    bare = text.replace("y = Add(p, c)", "y = Identity(p)")
    product = run_compiled(lowered(bare, WEIGHTS, "scheme=dot"), level, feeds)
    assert any("add" in k for k in got.kernels)
    np.testing.assert_array_equal(got.outputs[0], product.outputs[0] + feeds["c"])


@LEVELS_HERE
@pytest.mark.parametrize("m", [1, 3])
def test_stacked_products_have_the_bits_of_each(level: Level, m: int) -> None:
    weights = {f"{n}.weight": random(K, size, seed=size) for n, size in (("q", 70), ("k", 5))}
    feeds = {"x": random(m, K, seed=4)}
    body = " ".join(f'{n} = MatMul(x, "{n}.weight")' for n in "qk")
    text = f"g (float[{m}, {K}] x) => (float[{m}, 70] q, float[{m}, 5] k) {{ {body} }}"
    one = run_compiled(lowered(text, weights, "scheme=lut"), level, feeds)
    for number, (name, size) in enumerate((("q", 70), ("k", 5))):
        alone = (
            f'g (float[{m}, {K}] x) => (float[{m}, {size}] y) {{ y = MatMul(x, "{name}.weight") }}'
        )
        got = run_compiled(lowered(alone, weights, "scheme=lut"), level, feeds)
        np.testing.assert_array_equal(one.outputs[number], got.outputs[0])
