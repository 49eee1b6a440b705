"""``--format auto``: for each site the form that ONNX Runtime runs fastest, or standard ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from quantized import quantize_onnx
from small_graphs import assert_same, graph, meaning, op_types, quantized, random, stock

from ladder.errors import LadderError
from ladder.export.forms import AUTO, PORTABILITY, QDQ, SPEED, chosen
from ladder.export.onnx_out import FileForm, rewrite
from ladder.ir.dtype import DType
from ladder.pipeline import file_bench

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


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ({"only": ("y",)}, ["y"]),
        ({"only": ("Conv", "Gather")}, ["e", "z"]),
        ({"keep": ("Mat*",), "rules": ("Conv=int8:row",)}, ["e", "z"]),
        ({"least_weights": 2000}, ["e", "y"]),
    ],
)
def test_only_some_sites(tmp_path: Path, asked: dict[str, Any], done: list[str]) -> None:
    onnx.save(graph(TEXT, WEIGHTS), tmp_path / "in.onnx")
    report = quantize_onnx(
        tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:row", format=QDQ, **asked
    )
    assert sorted(site["name"] for site in report["sites"]) == done
    left = {row["name"]: row["reason"] for row in report["skipped"]}
    assert set(left) == {"e", "y", "z"} - set(done)
    if "least_weights" in asked:
        assert left == {"z": "96 weights, fewer than --least-weights 2000"}


def test_bits_count_the_quantized_weights_and_the_file(tmp_path: Path) -> None:
    onnx.save(graph(TEXT, WEIGHTS), tmp_path / "in.onnx")
    report = quantize_onnx(
        tmp_path / "in.onnx", tmp_path / "out.onnx", "int3:row", format=QDQ, only=("y",)
    )
    assert (report["quantized_weights"], report["weights"]) == (40 * 64, 40 * 64 + 96)
    assert report["bits_per_weight"] == 3 + 32 / 64
    size = (tmp_path / "out.onnx").stat().st_size
    assert report["file_bits_per_weight"] == 8 * size / report["weights"]


def test_bench_runs_both_files_on_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bench, "ROUNDS", file_bench.LEAST)
    onnx.save(graph(TEXT, WEIGHTS), tmp_path / "in.onnx")
    samples = {name: np.stack([array, array]) for name, array in FEEDS.items()}
    np.savez(tmp_path / "x.npz", **samples)  # type: ignore[arg-type]
    for calib in (None, tmp_path / "x.npz"):
        report = quantize_onnx(
            tmp_path / "in.onnx", tmp_path / "out.onnx", "int8:row", bench=True, calib=calib
        )
        bench = report["bench"]
        assert bench["shapes"] == {"i": [2, 3], "c": [1, 4, 9]} and bench["threads"] == 1
        assert bench["inputs"] == ("random numbers" if calib is None else str(calib))
        original, result = bench["original"], bench["result"]
        assert original["error"] == 0 and 1e-4 < result["error"] < 0.02
        assert min(original["ms"], result["cpu_ms"]) > 0
        assert result["size_bytes"] == (tmp_path / "out.onnx").stat().st_size
        assert original["size_bytes"] == (tmp_path / "in.onnx").stat().st_size


def test_a_file_that_takes_no_random_inputs_needs_samples(tmp_path: Path) -> None:
    text = "g (float[N, K] x) => (float[N, 9] y) { y = MatMul(x, w) }"  # K is 300 in truth
    onnx.save(graph(text, {"w": random(300, 9)}), tmp_path / "in.onnx")
    with pytest.raises(LadderError, match=r"--bench: ONNX .* give samples with --calib FILE.npz"):
        quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int8:row", bench=True)
