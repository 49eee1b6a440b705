"""Sites: roles by name, where weights may be stored, and why a node is not a site."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.ir.convolution import Window
from ladder.ir.site import Refusal, Site, find_sites

MATMUL = "g (float[M, 64] x) => (float[M, 8] y) { y = MatMul(x, w) }"


def found(text: str, weights: dict[str, np.ndarray]) -> tuple[list[Site], list[Refusal]]:
    return find_sites(ir.from_proto(graph(text, weights)))


def only_site(text: str, weights: dict[str, np.ndarray]) -> Site:
    (site,), refusals = found(text, weights)
    assert not refusals
    return site


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.layers.0.self_attn.q_proj", "attn.q"),
        ("model.layers.0.self_attn.k_proj", "attn.k"),
        ("model.layers.0.self_attn.v_proj", "attn.v"),
        ("model.layers.0.self_attn.o_proj", "attn.o"),
        ("bert.encoder.layer.3.attention.self.query", "attn.q"),
        ("bert.encoder.layer.3.attention.output.dense", "attn.o"),
        ("bert.encoder.layer.3.intermediate.dense", "mlp.up"),
        ("bert.encoder.layer.3.output.dense", "mlp.down"),
        ("transformer.h.0.attn.c_attn", "attn.qkv"),
        ("transformer.h.0.attn.c_proj", "attn.o"),
        ("transformer.h.0.mlp.c_fc", "mlp.up"),
        ("transformer.h.0.mlp.c_proj", "mlp.down"),
        ("model.layers.0.mlp.gate_proj", "mlp.gate"),
        ("model.layers.0.mlp.up_proj", "mlp.up"),
        ("model.layers.0.mlp.down_proj", "mlp.down"),
        ("layers.0.feed_forward.w2", "mlp.down"),
        ("backbone.layers.0.mixer.in_proj", "mamba.in_proj"),
        ("backbone.layers.0.mixer.out_proj", "mamba.out_proj"),
        ("lm_head", "lm_head"),
        ("classifier", "matmul"),
        ("backbone.layers.0.mixer.in_proj", "mamba.in_proj"),
        ("model.layers.0.mamba.x_proj", "mamba.x_proj"),
        ("backbone.layers.0.mixer.q_proj", "attn.q"),
        ("model.layers.0.linear_attn.in_proj_qkvz", "delta.in_proj_qkvz"),
        ("model.layers.0.linear_attn.out_proj", "delta.out_proj"),
        ("rwkv.blocks.0.attention.key", "rwkv.key"),
        ("rwkv.blocks.0.feed_forward.key", "rwkv.mlp.key"),
        ("model.layers.0.temporal_block.linear_x", "rglru.linear_x"),
        ("model.layers.0.conv.in_proj", "conv.in_proj"),
        ("head", "lm_head"),
    ],
)
def test_roles(name: str, role: str) -> None:
    text = MATMUL.replace("w)", f'"{name}.weight")')
    site = only_site(text, {f"{name}.weight": random(64, 8)})
    assert (site.name, site.role, site.n, site.k) == (name, role, 8, 64)


def test_embedding() -> None:
    text = "g (int64[M] i) => (float[M, 8] y) { y = Gather(w, i) }"
    site = only_site(text, {"w": random(64, 8)})
    assert (site.role, site.n, site.k, site.transposed) == ("embed", 64, 8, False)


@pytest.mark.parametrize(("flag", "shape"), [(0, (64, 8)), (1, (8, 64))])
def test_gemm(flag: int, shape: tuple[int, int]) -> None:
    weight = random(*shape)
    text = f"g (float[M, 64] x) => (float[M, 8] y) {{ y = Gemm<transB = {flag}>(x, w) }}"
    site = only_site(text, {"w": weight})
    assert (site.n, site.k) == (8, 64)
    np.testing.assert_array_equal(site.array(), weight if flag else weight.T)


def test_weight_under_a_transpose() -> None:
    text = """g (float[M, 64] x) => (float[M, 8] y) {
        t = Transpose<perm = [1, 0]>("fc1.weight") y = MatMul(x, t) }"""
    weight = random(8, 64)
    site = only_site(text, {"fc1.weight": weight})
    assert (site.name, site.role, site.transposed) == ("fc1", "mlp.up", False)
    np.testing.assert_array_equal(site.array(), weight)


def test_weight_in_a_constant_node() -> None:
    text = """g (float[M, 2] x) => (float[M, 3] y) {
        w = Constant<value = float[2, 3] {1., 2., 3., 4., 5., 6.}>() y = MatMul(x, w) }"""
    site = only_site(text, {})
    assert site.array().tolist() == [[1, 4], [2, 5], [3, 6]]


def test_subgraphs() -> None:
    text = """g (float[M, 64] x, bool c) => (float[M, 8] y) {
        y = If(c) <then_branch = yes () => (float[M, 8] a) { a = MatMul(x, w) },
                   else_branch = no () => (float[M, 8] b) { b = MatMul(x, w) }> }"""
    sites, refusals = found(text, {"w": random(64, 8)})
    assert [site.name for site in sites] == ["a", "b"] and not refusals
    assert sites[0].weight is sites[1].weight


def test_names_are_unique() -> None:
    text = """g (float[M, 8] x) => (float[M, 8] y) {
        h = MatMul(x, "a.weight") y = MatMul(h, "a.weight") }"""
    sites, _ = found(text, {"a.weight": random(8, 8)})
    assert [site.name for site in sites] == ["a", "a#2"]


@pytest.mark.parametrize(
    ("line", "shape", "reason"),
    [
        ("MatMul(x, x)", (64, 64), "its second operand is computed, not a constant weight"),
        ("MatMul(x, w)", (2, 64, 64), "its weight has 3 dimensions, not 2"),
        ("Gemm<transA = 1>(x, w)", (64, 64), "Gemm with transA"),
        ("Gemm<alpha = 0.5>(x, w)", (64, 64), "Gemm with alpha other than 1"),
        ("Gemm<beta = 0.5>(x, w)", (64, 64), "Gemm with beta other than 1"),
        ("Gather<axis = 1>(w, i)", (64, 64), "it gathers along an axis other than the rows"),
        ("Gather(w, i)", (4, 64), "its table is too small for low-bit types to pay off"),
        ("Conv(x, x)", (64, 64, 3), "its second operand is computed, not a constant weight"),
        ("Conv(x, w)", (64, 64), "its window has 0 dimensions, not 1, 2 or 3"),
        ("Conv(x, w)", (4, 4, 2, 2, 2, 2), "its window has 4 dimensions, not 1, 2 or 3"),
        (
            "Conv<group = 64>(x, w)",
            (64, 1, 1),
            "each output has a single weight: its scale would take more space",
        ),
        ("ConvTranspose(x, w)", (64, 64, 3), "ConvTranspose has no low-bit form"),
        ("DequantizeLinear(x, w)", (), "already low-bit"),
        ("ConvInteger(x, w)", (64, 64, 3), "ConvInteger has no low-bit kernel"),
    ],
)
def test_refusals(line: str, shape: tuple[int, ...], reason: str) -> None:
    text = f"g (float[64, 64] x, int64[M] i) => (float[A, B] y) {{ y = {line} }}"
    sites, refusals = found(text, {"w": random(*shape)})
    assert not sites
    assert refusals == [Refusal("y", line.partition("(")[0].partition("<")[0], reason)]


CONV = "g ({x} x) => (float[B, O, R, S] y) {{ y = Conv<{options}>(x, w) }}"


@pytest.mark.parametrize(
    ("shape", "options", "n", "k"),
    [
        ((8, 4, 3, 5), "strides = [2, 1]", 8, 60),
        ((8, 4, 1, 1), "dilations = [1, 1]", 8, 4),
        ((8, 1, 3, 3), "group = 8", 8, 9),
    ],
)
def test_convolutions(shape: tuple[int, ...], options: str, n: int, k: int) -> None:
    """K has the taps outside and the channels inside."""
    weight = random(*shape)
    site = only_site(CONV.format(x="float[B, C, H, W]", options=options), {"w": weight})
    assert (site.role, site.n, site.k, site.transposed) == ("conv", n, k, False)
    by_tap = site.array().reshape(n, *shape[2:], shape[1])
    np.testing.assert_array_equal(np.moveaxis(by_tap, -1, 1), weight)


def test_window() -> None:
    """Every default is filled in."""
    options = "strides = [2, 1], pads = [1, 0, 2, 0]"
    site = only_site(CONV.format(x="float[B, C, H, W]", options=options), {"w": random(8, 4, 3, 5)})
    assert site.window == Window((3, 5), (2, 1), (1, 1), (1, 0, 2, 0), 1)
    assert only_site(MATMUL, {"w": random(64, 8)}).window is None


@pytest.mark.parametrize(
    ("x", "options", "pads"),
    [
        ("float[B, 4, 9, 9]", 'auto_pad = "VALID", strides = [2, 2]', (0, 0, 0, 0)),
        ("float[B, 4, 9, 9]", 'auto_pad = "SAME_UPPER", strides = [2, 3]', (1, 0, 1, 1)),
        ("float[B, 4, 9, 9]", 'auto_pad = "SAME_LOWER", strides = [2, 3]', (1, 1, 1, 0)),
        ("float[B, 4, 9, 8]", 'auto_pad = "SAME_UPPER", strides = [2, 4]', (1, 0, 1, 0)),
        ("float[B, 4, H, W]", 'auto_pad = "SAME_UPPER"', (1, 1, 1, 2)),
        ("float[B, 4, H, W]", 'auto_pad = "SAME_LOWER", dilations = [2, 1]', (2, 2, 2, 1)),
        ("float[B, 4, H, 9]", 'auto_pad = "SAME_UPPER", strides = [1, 2]', (1, 1, 1, 2)),
        ("float[B, 4, H, W]", 'auto_pad = "SAME_UPPER", strides = [1, 2]', None),
    ],
)
def test_pads_from_sizes(x: str, options: str, pads: tuple[int, ...] | None) -> None:
    """Without strides they do not depend on the input."""
    sites, refusals = found(CONV.format(x=x, options=options), {"w": random(8, 4, 3, 4)})
    if pads is not None:
        assert sites[0].window is not None and sites[0].window.pads == pads
        return
    reason = "its pads (SAME_UPPER) depend on the input's size, which is not static"
    assert not sites and refusals == [Refusal("y", "Conv", reason)]


def test_other_types_are_refused() -> None:
    text = "g (int32[64, 64] x) => (int32[64, 8] y) { y = MatMul(x, w) }"
    sites, (refusal,) = found(text, {"w": random(64, 8).astype(np.int32)})
    assert not sites and refusal.reason == "its weight is INT32, not a float"


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_floats_are_sites(kind: str) -> None:
    text = f"g ({kind}[64, 64] x) => ({kind}[64, 8] y) {{ y = MatMul(x, w) }}"
    weight = random(64, 8).astype(kind)
    (site,), _ = found(text, {"w": weight})
    assert site.kind.numpy() == weight.dtype
    np.testing.assert_array_equal(site.array(), weight.T.astype(np.float32))


def test_custom_domains_are_not_looked_at() -> None:
    text = "g (float[M, 64] x) => (float[M, 8] y) { y = custom.MatMul(x, w) }"
    assert found(text, {"w": random(64, 8)}) == ([], [])


def test_graph_inputs_are_not_weights() -> None:
    text = "g (float[M, 64] x, float[64, 8] w) => (float[M, 8] y) { y = MatMul(x, w) }"
    proto: onnx.ModelProto = graph(text, {})
    sites, (refusal,) = find_sites(ir.from_proto(proto))
    assert not sites and refusal.reason.startswith("its second operand is computed")


ROWS = "g (int64[3] ids, float[3, 32] x) => (float[3, 32] y) {{ r = Gather (table, ids)  {} }}"
ANGLES = np.cos(np.outer(np.arange(64), np.arange(32) / 32)).astype(np.float32)


@pytest.mark.parametrize(
    "use",
    [
        "y = Mul (x, r)",
        "n = Neg (r)  a = Mul (n, x)  b = Mul (x, r)  y = Add (a, b)",
        "c = Concat <axis = 0> (r)  y = Mul (c, x)",
    ],
)
def test_tables_of_factors_stay_float(use: str) -> None:
    sites, (refusal,) = found(ROWS.format(use), {"table": ANGLES})
    assert not sites and refusal.reason.startswith("its rows are factors of activations")


PADDED = np.where(np.arange(64)[:, None] == 1, np.float32(0), 5 * ANGLES)


@pytest.mark.parametrize("table", [ANGLES, PADDED, ANGLES.astype(np.float16).astype(np.float32)])
def test_sinusoids_stay_float(table: np.ndarray) -> None:
    """Those of added positions, also with a row for padding."""
    sites, (refusal,) = found(ROWS.format("y = Add (x, r)"), {"table": table})
    assert not sites and refusal.reason == "its columns are sines of positions"


LEARNED = random(64, 32) / 4
LINES = np.outer(np.arange(64), np.arange(32)).astype(np.float32)


@pytest.mark.parametrize(
    ("use", "table"),
    [
        ("y = Add (x, r)", LEARNED),
        ("y = Add (x, r)", LINES),
        ("y = Add (x, r)", np.ones((64, 32), np.float32)),
        ("y = Add (x, r)", np.zeros((64, 32), np.float32)),
        ("y = Add (x, r)", ANGLES + 0.05 * LEARNED),
        ("y = Mul (r, scale)", LEARNED),
        ("k = Constant <value_float = 8.0> ()  y = Mul (r, k)", LEARNED),
        ("a = Mul (x, r)  y = Add (a, r)", LEARNED),
        ("y = Mul (x, r)", 40 * LEARNED),
        ("y = Identity (r)", LEARNED),
    ],
)
def test_embeddings_are_no_factors(use: str, table: np.ndarray) -> None:
    weights = {"table": table, "scale": np.array(8, np.float32)}
    sites, refusals = found(ROWS.format(use), weights)
    assert len(sites) == 1 and not refusals
