"""Weights of GGUF and ONNX files are counted by type, and models are compared."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import pytest
from gguf_files import tensors, write
from small_graphs import graph, random

import ladder
from ladder.errors import LadderError
from ladder.evaluation.compare import ARTIFACT, GGUF, Compared, compare, write_comparison
from ladder.evaluation.weight_counts import gguf_counts, onnx_counts

WEIGHTS = {"up.weight": (64, 96), "down.weight": (96, 32)}
COUNT = 64 * 96 + 96 * 32
NET = """g (float[M, 64] x) => (float[M, 32] y) {
  h = MatMul(x, "up.weight")
  b = Add(h, bias)
  r = Relu(b)
  y = MatMul(r, "down.weight")
}"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    weights = {name: random(*shape) for name, shape in WEIGHTS.items()} | {"bias": random(1, 96)}
    onnx.save(graph(NET, weights), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_floats_of_an_onnx_file(net: Path) -> None:
    counts = onnx_counts(net)
    assert counts.types == {"float32": COUNT}
    assert counts.constant_bytes == 4 * (COUNT + 96)
    assert counts.bits_per_weight == pytest.approx(32 * (1 + 96 / COUNT))


CODES = [
    ("qdq", "int4:g32", {"int4": COUNT}, 5),
    ("qdq", "uint4:g32:zp", {"uint4": COUNT}, 5.125),
    ("qdq", "int8:row", {"int8": COUNT}, 8.4),
    ("nbits", "int4:g32", {"int4": COUNT}, 5),
    ("nbits", "int8:g32", {"int8": COUNT}, 9),
]


@pytest.mark.parametrize(("format", "type", "types", "bits"), CODES)
def test_codes_of_an_onnx_file(
    net: Path, format: str, type: str, types: dict[str, int], bits: float
) -> None:
    out = net.with_name("out.onnx")
    ladder.export_onnx(net, out, type, format=format, checked=False)
    counts = onnx_counts(out)
    assert counts.types == types
    assert counts.bits_per_weight == pytest.approx(bits + 32 * 96 / COUNT, rel=0.03)


def test_blocks_of_a_gguf_file(tmp_path: Path) -> None:
    arrays = tensors()
    kinds = {name: gguf.GGMLQuantizationType.Q4_0 for name in arrays if "ffn" in name}
    kinds = {name: kind for name, kind in kinds.items() if arrays[name].ndim == 2}
    counts = gguf_counts(write(tmp_path / "a.gguf", arrays=arrays, kinds=kinds))
    low = sum(arrays[name].size for name in kinds)
    matrices = sum(array.size for array in arrays.values() if array.ndim == 2)
    assert counts.types == {"Q4_0": low, "F32": matrices - low}
    every = sum(array.size for array in arrays.values())
    assert counts.constant_bytes == low * 18 // 32 + 4 * (every - low)


def row(name: str, kind: str, digest: str, **values: Any) -> Compared:
    return Compared(name, kind, 1_000_000, 4.5, {"int4:g32": 3, "int8:row": 1}, digest, **values)


def test_the_table_and_the_picture(net: Path, tmp_path: Path) -> None:
    scored = row("a", ARTIFACT, "d", kl=0.1, perplexity=9.0, text="t, 8 tokens")
    assert scored.shown["mix"] == "75% int4:g32, 25% int8:row"
    assert scored.shown["words"] == "close to the float model"
    write_comparison(tmp_path / "c.svg", [scored, row("b", GGUF, "d")])
    drawn = ElementTree.parse(tmp_path / "c.svg").getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert sum(element.tag.endswith("circle") for element in drawn.iter()) == 1
    with pytest.raises(LadderError, match=r"no loss to draw; run 'ladder eval' on the artifacts"):
        write_comparison(tmp_path / "none.svg", compare([net]))
    with pytest.raises(LadderError, match=r"c\.png: give a file that ends in \.html or \.svg"):
        write_comparison(tmp_path / "c.png", [scored])


def test_the_command(cli: Callable[..., Any], net: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    ran = cli("compare", net, tmp_path / "x.npy")
    assert ran.code == 2 and "x.npy: give artifact folders, GGUF files and ONNX files" in ran.err
    (only,) = cli("compare", net, "-o", tmp_path / "c.html", "--json").json
    assert only["types"] == {"float32": COUNT} and only["size_bytes"] == net.stat().st_size
    assert (
        only["perplexity"] is None
        and "None of them was scored" in (tmp_path / "c.html").read_text()
    )
    assert "100% float32" in cli("compare", net).out
