"""``--format auto``: for each site the form that ONNX Runtime runs fastest, or standard ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from quantized import quantize_onnx
from small_graphs import assert_same, graph, meaning, op_types, quantized, random, stock

from ladder.errors import LadderError
from ladder.export.forms import AUTO, PORTABILITY, SPEED, chosen
from ladder.export.onnx_out import FileForm, rewrite
from ladder.ir.dtype import DType

# A table that is tied to a product, and a convolution.
TEXT = """g (int64[2, 3] i, float[1, 4, 9] c) => (float[2, 3, 40] y, float[1, 8, 7] z) {
    e = Gather(w, i)
    t = Transpose<perm = [1, 0]>(w)
    y = MatMul(e, t)
    z = Conv(c, k)
}"""
WEIGHTS = {"w": random(40, 64), "k": random(8, 4, 3)}
FEEDS = {"i": random(2, 3).argsort(1), "c": random(1, 4, 9, seed=1)}


@pytest.mark.parametrize(
    ("op", "type", "speed", "rounded"),
    [
        ("MatMul", "int4:g32", "nbits", "nbits"),
        ("Gemm", "uint4:g64:zp", "nbits", "nbits"),
        ("MatMul", "nf4:g64", "nbits", "nbits"),
        ("MatMul", "int8:row", "qdq", "nbits"),
        ("MatMul", "int2:g64", "qdq", "nbits"),
        ("MatMul", "int3:g32", "qdq", "qdq"),
        ("MatMul", "int4:g20", "qdq", "qdq"),
        ("Gather", "int8:row", "nbits", "nbits"),
        ("Gather", "mxfp4", "qdq", "qdq"),
        ("Conv", "int4:g32", "qdq", "qdq"),
    ],
)
def test_the_choice(op: str, type: str, speed: str, rounded: str) -> None:
    """``rounded``: with an accuracy_level, for which ONNX Runtime has kernels of 2 and 8 bits."""
    dtype = DType.parse(type)
    assert chosen(AUTO, SPEED, op, dtype, 128) == speed
    assert chosen(AUTO, SPEED, op, dtype, 128, accuracy_level=4) == rounded
    assert chosen(AUTO, PORTABILITY, op, dtype, 128, accuracy_level=4) == "qdq"


@pytest.mark.parametrize(
    ("type", "purpose", "ops"),
    [
        ("int4:g32", SPEED, ["GatherBlockQuantized", "MatMulNBits", "Conv"]),
        ("int8:row", SPEED, ["GatherBlockQuantized", "MatMul", "Conv"]),
        ("int4:g32", PORTABILITY, ["Gather", "MatMul", "Conv"]),
    ],
)
def test_users_of_one_weight_have_their_own_forms(type: str, purpose: str, ops: list[str]) -> None:
    model = quantized(graph(TEXT, WEIGHTS), type)
    wanted = meaning(model, FEEDS)
    rewrite(model, FileForm(AUTO, purpose))
    moved = ("DequantizeLinear", "Reshape", "Transpose")
    assert [op for op in op_types(model) if op not in moved] == ops
    assert {name.split(".")[-1] for name in model.graph.initializers}.isdisjoint({"codes", "w"})
    assert_same(stock(model, FEEDS), wanted)


@pytest.mark.parametrize(("asked", "form"), [({}, "MatMulNBits"), ({"purpose": PORTABILITY}, "D")])
def test_it_is_the_default(tmp_path: Path, asked: dict[str, Any], form: str) -> None:
    onnx.save(graph(TEXT, WEIGHTS), tmp_path / "in.onnx")
    report = quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32", **asked)
    assert report["format"] == AUTO
    assert next(site for site in report["sites"] if site["name"] == "y")["form"].startswith(form)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(LadderError, match="unknown --for 'size'; one of: speed, portability"):
        FileForm(AUTO, "size").check()
