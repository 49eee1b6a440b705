"""Export to ONNX Runtime's own operators: packing, exactness, refusals."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_graphs import assert_same, checked, graph, meaning, op_types, quantized, random, stock

from ladder.errors import LadderError
from ladder.export.nbits import block_size, pack_bits, refuse
from ladder.export.onnx_out import FileForm, rewrite
from ladder.export.weights import array_of
from ladder.ir.dtype import DType

MATMUL = "g (float[M, {k}] x) => (float[M, {n}] y) {{ y = MatMul(x, w) }}"
TYPES = [
    *(f"int{bits}:g{group}" for bits in (2, 4, 8) for group in (16, 32, 64, 128, 256, 512)),
    *(f"int{bits}:{group}" for bits in (2, 4, 8) for group in ("row", "tensor")),
    *(f"uint{bits}:g32:zp" for bits in (2, 4, 8)),
    "uint8:row:zp",
]
SHAPES = [(64, 64), (5, 97), (17, 600), (1, 3)]


def exported(model: ir.Model, accuracy_level: int = 0) -> ir.Model:
    rewrite(model, FileForm("nbits", accuracy_level=accuracy_level))
    return model


def matmul(n: int, k: int, type: str, opset: int = 17) -> ir.Model:
    return quantized(graph(MATMUL.format(n=n, k=k), {"w": random(k, n)}, opset), type)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("type", TYPES)
def test_stock_runtime_computes_the_meaning(type: str, shape: tuple[int, int]) -> None:
    n, k = shape
    model = matmul(n, k, type)
    feeds = {"x": random(4, k, seed=1)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert op_types(model) == ["MatMulNBits"]
    assert_same(stock(model, feeds), wanted)


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_the_opset_stays(opset: int) -> None:
    model = exported(matmul(8, 64, "int4:g32", opset))
    assert model.graph.opset_imports == {"": opset, "custom": 1, "com.microsoft": 1}
    checked(model)


def test_accuracy_level_is_left_out_unless_asked_for() -> None:
    assert "accuracy_level" not in exported(matmul(8, 64, "int4:g32")).graph[0].attributes
    asked = exported(matmul(8, 64, "int4:g32"), 4).graph[0].attributes["accuracy_level"]
    assert asked.as_int() == 4


def test_layout() -> None:
    """Bytes [N, groups, group / 2], the first code of a pair in the low half, offset by 8."""
    model = matmul(3, 40, "int4:g32")
    codes = array_of(model.graph.initializers["y.codes"]).astype(np.int8)
    exported(model)
    packed = array_of(model.graph.initializers["y.packed"])
    assert packed.shape == (3, 2, 16)
    assert packed[1, 0, 0] == (codes[1, 0] + 8) | (codes[1, 1] + 8) << 4
    assert array_of(model.graph.initializers["y.packed.scale"]).shape == (3, 2)


@given(st.sampled_from([2, 4, 8]), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_packing_can_be_undone(bits: int, k: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (3, k)).astype(np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (3, -(-k * bits // 8))
    unpacked = packed[..., None] >> (np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits))
    assert (unpacked.reshape(3, -1)[:, :k] & ((1 << bits) - 1) == codes).all()


@pytest.mark.parametrize(
    ("type", "k", "block"),
    [
        ("int4:g32", 97, 32),
        ("int8:g512", 600, 256),
        ("int8:row", 3, 16),
        ("int8:row", 120, 128),
        ("int2:row", 600, 128),
    ],
)
def test_block_size(type: str, k: int, block: int) -> None:
    assert block_size(DType.parse(type), k) == block


TIED = """g (int64[T] ids) => (float[T, 20] y) {
    x = Gather(table, ids)
    head = Transpose<perm=[1, 0]>(table)
    y = MatMul(x, head)
}"""


@pytest.mark.parametrize(
    "type", ["int2:g16", "uint2:g32:zp", "int4:g16", "int8:row", "uint4:g32:zp", "uint8:g16:zp"]
)
def test_embedding(type: str) -> None:
    model = quantized(graph(TIED, {"table": random(20, 48)}, 17), type)
    feeds = {"ids": np.array([3, 19, 0])}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert op_types(model) == ["GatherBlockQuantized", "MatMulNBits"]
    assert_same(stock(model, feeds), wanted)


@pytest.mark.parametrize("bias", [True, False])
def test_gemm_becomes_a_product_and_an_add(bias: bool) -> None:
    text = f"g (float[M, 33] x) => (float[M, 5] y) {{ y = Gemm(x, w{', b' if bias else ''}) }}"
    weights = {"w": random(33, 5), **({"b": random(5)} if bias else {})}
    model = quantized(graph(text, weights, 13), "int4:g32")
    feeds = {"x": random(3, 33, seed=1)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert op_types(model) == ["MatMulNBits", "Add"][: 1 + bias]
    assert_same(stock(model, feeds), wanted)


def test_subgraph() -> None:
    text = """g (float[M, 40] x, bool c) => (float[M, 6] y) {
        y = If(c) <
            then_branch = yes () => (float[M, 6] a) { a = MatMul(x, w) },
            else_branch = no () => (float[M, 6] b) { n = Neg(x)  b = MatMul(n, w) }
        >
    }"""
    model = quantized(graph(text, {"w": random(40, 6)}, 16), "int4:g32")
    feeds = {"x": random(2, 40, seed=1), "c": np.array(False)}
    wanted = meaning(model, feeds)
    exported(model)
    checked(model)
    assert_same(stock(model, feeds), wanted)


@pytest.mark.parametrize(
    ("type", "match"),
    [
        ("int3:g32", "site y: int3:g32 has no nbits form: MatMulNBits stores 2, 4, 8 bits, not 3"),
        ("int4:g48", "groups that are a power of two from 16 on, not 48; choose another type"),
        ("int4:g8", "groups that are a power of two from 16 on, not 8; .* --format qdq"),
    ],
)
def test_refusals(type: str, match: str) -> None:
    with pytest.raises(LadderError, match=match):
        exported(matmul(8, 96, type))


def test_gather_refusals() -> None:
    assert refuse("Gather", DType.parse("int4:g32"), 64) is None
    assert "stores 2, 4, 8 bits, not 3" in (refuse("Gather", DType.parse("int3:g32"), 64) or "")
    assert "whole bytes per row" in (refuse("Gather", DType.parse("int4:g32"), 33) or "")
