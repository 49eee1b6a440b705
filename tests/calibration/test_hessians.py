"""Hessians of every product's inputs, collected block by block, compared with whole models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

import ladder
from ladder.calibration import collect as own
from ladder.calibration.data import Data, sample_data, text_data
from ladder.calibration.hessians import collect
from ladder.calibration.operands import TABLE, Operand, operand_of
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.site import find_sites
from ladder.pipeline.sources import load_source
from ladder.reference import Reference

Values = dict[str, np.ndarray]
WORDS = "The quick brown fox jumps over the lazy dog; and so it goes on, from line to line.\n"


@pytest.fixture(scope="module")
def source(tiny_chat_folder: Path) -> Source:
    return load_source(tiny_chat_folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(WORDS * 200)
    return path


def inputs_of(model: ir.Model, names: Iterable[str], feeds: list[Values]) -> list[Values]:
    """The named values from a run of the whole model."""
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    known = {v.name for v in copy.graph.outputs}
    copy.graph.outputs.extend(values[n] for n in names if n in values and n not in known)
    reference = Reference(copy)
    return [{**window, **reference.run(window)} for window in feeds]


@pytest.mark.models
def test_every_product_has_its_own(source: Source, text: Path, tmp_path: Path) -> None:
    data = text_data(source, text, 11, 16)
    found = collect(source, data, 2, tmp_path / "h")
    assert (found.tokens, found.text) == (176, str(text))
    sites = {site.name: site for site in find_sites(source.model)[0]}
    assert set(found.files) == set(sites) - {"model.embed_tokens"}
    assert found.missing == {"model.embed_tokens": TABLE}
    operands = {name: operand_of(sites[name], source.model) for name in found.files}
    read = {name: o.value for name, o in operands.items() if isinstance(o, Operand)}
    runs = inputs_of(source.model, read.values(), data.feeds)
    for name, value in read.items():
        x = np.concatenate([run[value].reshape(-1, sites[name].k) for run in runs]).astype(float)
        h = np.load(found.files[name])
        assert h.dtype == np.float32
        np.testing.assert_allclose(h, x.T @ x / len(x), atol=1e-4 * np.abs(h).max())
    shared = [found.files[f"model.layers.1.self_attn.{p}_proj"] for p in "qkv"]
    assert len(set(shared)) == 1  # sites that read the same value share a file


@pytest.mark.models
def test_a_killed_run_resumes(
    source: Source, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = text_data(source, text, 2, 16)
    whole = collect(source, data, 1, tmp_path / "whole")
    saved: list[Path] = []
    save = own._save

    def die(path: Path, h: np.ndarray) -> None:
        if len(saved) == 5:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, h)

    monkeypatch.setattr(own, "_save", die)
    with pytest.raises(KeyboardInterrupt):
        collect(source, data, 1, tmp_path / "parts")
    written = {path.name: path.stat().st_mtime_ns for path in saved}
    monkeypatch.setattr(own, "_save", save)
    again = collect(source, data, 1, tmp_path / "parts")
    for name, file in whole.files.items():
        np.testing.assert_array_equal(np.load(file), np.load(again.files[name]))
    assert {n: (tmp_path / "parts" / n).stat().st_mtime_ns for n in written} == written
    monkeypatch.setattr(own, "Flow", None)  # a third run does nothing at all
    assert collect(source, data, 1, tmp_path / "parts") == again


CONV = """g (float[2, 4, 9, 8] x) => (float y) {
    a = Conv <strides = [2, 1], pads = [1, 0, 2, 1], dilations = [1, 2]> (x, w)
    b = Conv <group = 2> (a, v)
    y = ReduceSum <keepdims = 0> (b)
}"""


def conv_source() -> Source:
    weights = {"w": random(6, 4, 3, 2), "v": random(6, 3, 1, 1)}
    return Source(ir.from_proto(graph(CONV, weights)), "conv", "conv")


def test_a_convolution_reads_patches(tmp_path: Path) -> None:
    """x H x' is the energy of the convolution's output."""
    source = conv_source()
    samples = {"x": np.stack([random(2, 4, 9, 8, seed=seed) for seed in range(3)])}
    data = sample_data(source, samples, "samples")
    found = collect(source, data, 1, tmp_path / "h")
    first, second = find_sites(source.model)[0]
    assert list(found.files) == [first.name]
    assert found.missing[second.name].startswith("a grouped convolution")
    outputs = [run["a"] for run in inputs_of(source.model, ["a"], data.feeds)]
    rows = first.array()
    energy = np.einsum("nk,kl,nl->n", rows, np.load(found.files[first.name]), rows)
    wanted = np.mean([np.square(y).mean((0, 2, 3)) for y in outputs], axis=0)
    np.testing.assert_allclose(energy, wanted, rtol=1e-4)


def test_nan_is_refused(tmp_path: Path) -> None:
    source = conv_source()
    data = Data("d", "d", [{"x": np.full((2, 4, 9, 8), np.nan, np.float32)}], 1)
    with pytest.raises(
        LadderError, match="value 'x' contains NaN or infinity on the calibration data"
    ):
        collect(source, data, 1, tmp_path / "h")
    assert not list((tmp_path / "h").glob("*"))


@pytest.mark.models
def test_compile_with_gptq(tiny_chat_folder: Path, text: Path, tmp_path: Path) -> None:
    """The report has the error of each site's products under each method, and the text."""
    options: dict[str, Any] = {"calib": str(text), "context": 32, "chunk": 8}
    options |= {"type": "int3:g32", "rounding": "best"}
    report = ladder.compile(tiny_chat_folder, tmp_path / "out", **options)
    assert any("calibrated on 8192 tokens of" in note for note in report["notes"])
    for site in report["sites"]:
        errors = site["output_errors"]
        assert site["rounding"] == min(errors, key=lambda name: errors[name])
        assert errors["gptq"] < errors["mse"]


@pytest.mark.models
def test_plan_with_gptq(source: Source, text: Path) -> None:
    planned = ladder.plan(
        source, bpw="3.5", types="int2:g32,int4:g32", rounding="gptq", calib=str(text), tokens=16
    )
    assert planned["measured"]["kl"] > 0


def test_quantize_with_samples(tmp_path: Path) -> None:
    text = "g (float[3, 64] x) => (float[3, 32] y) { y = MatMul (x, w) }"
    proto = graph(text, {"w": random(64, 32)})
    onnx.save(proto, tmp_path / "in.onnx")
    np.savez(tmp_path / "x.npz", x=random(40, 3, 64))
    from ladder.planning.one_step import quantize_in_one_step

    options = {"type": "int2:g32", "rounding": "gptq", "calib": str(tmp_path / "x.npz")}
    report = quantize_in_one_step(tmp_path / "in.onnx", tmp_path / "out.onnx", options)
    (site,) = report["sites"]
    errors = site["output_errors"]
    assert site["rounding"] == "gptq" and errors["gptq"] < errors["mse"]
    with pytest.raises(LadderError, match=r"--calib FILE\.npz"):
        quantize_in_one_step(tmp_path / "in.onnx", tmp_path / "o.onnx", {"rounding": "gptq"})


@pytest.mark.models
def test_a_text_too_short_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(LadderError, match="9 tokens are less than one window of 128"):
        ladder.compile(source, tmp_path / "out", rounding="gptq", calib=str(tmp_path / "short.txt"))
