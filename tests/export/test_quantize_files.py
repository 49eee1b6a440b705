"""From ONNX files to ONNX files: the report, the refusals, and real models."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fetch import package_file
from quantized import quantize_onnx
from small_graphs import assert_same, graph, meaning, random, stock

from ladder.errors import LadderError, NothingToQuantize
from ladder.export import save
from ladder.frontend.onnx_file import load_onnx
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights

TWO = """two (float[M, 64] x) => (float[M, 24] y) {
    h = MatMul(x, up)
    r = Relu(h)
    p = MatMul(r, down)
    q = MatMul(p, tiny)
    s = MatMul(q, q2)
    y = MatMul(s, wide)
}"""
WEIGHTS = {
    "up": random(64, 96),
    "down": random(96, 48, seed=1),
    "tiny": random(48, 1, seed=2),
    "q2": random(1, 64, seed=3),
    "wide": random(64, 24, seed=4),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(graph(TWO, WEIGHTS, 17), path)
    return path


@pytest.mark.parametrize("format", ["qdq", "nbits"])
def test_report(source: Path, tmp_path: Path, format: str) -> None:
    target = tmp_path / "out.onnx"
    report = quantize_onnx(source, target, "int4:g32", format=format, keep=("y*",))
    assert json.loads(json.dumps(report)) == report
    assert report["size_bytes"] == target.stat().st_size
    assert report["size_bytes_before"] == source.stat().st_size
    assert report["bits_per_weight"] == 5.0
    shared = {
        "role": "matmul",
        "type": "int4:g32",
        "reason": "uniform",
        "form": "DequantizeLinear" if format == "qdq" else "MatMulNBits",
        "rounding": "mse",
    }
    for site in report["sites"]:
        assert 0 < site.pop("weight_error") < 0.2
    assert report["sites"] == [
        {"name": "h", "n": 96, "k": 64, **shared},
        {"name": "p", "n": 48, "k": 96, **shared},
    ]
    assert report["skipped"] == [
        {
            "name": "q",
            "op": "MatMul",
            "reason": "too small: int4:g32 would not shrink its 48 weights",
        },
        {
            "name": "s",
            "op": "MatMul",
            "reason": "too small: int4:g32 would not shrink its 64 weights",
        },
        {"name": "y", "op": "MatMul", "reason": "kept by --keep"},
    ]
    stored = json.loads(onnx_metadata(target)[facts.METADATA_KEY])
    assert set(stored["BitPlan"]["choices"]) == {"h", "p"}
    assert stored["Skipped"]["reasons"]["y"] == "MatMul: kept by --keep"


def onnx_metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_keep_that_matches_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        LadderError, match=r"--keep 'lm_head' matches no site; .*are: h, p, q, s, y"
    ):
        quantize_onnx(source, tmp_path / "out.onnx", "int4:g32", keep=("lm_head",))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"type": "int9:row"}, "unknown type 'int9:row'"),
        ({"type": "int4:g0"}, "the group must be positive"),
        ({"type": "fp16"}, "is a float: there is nothing to quantize to"),
        ({"type": "int4:g32", "rounding": "magic"}, "unknown rounding 'magic'; one of: rtn, mse"),
        (
            {"type": "int4:g32", "format": "tflite"},
            "unknown format 'tflite'; one of: auto, qdq, nbits",
        ),
        ({"type": "int3:g32", "format": "nbits"}, "stores 2, 4, 8 bits, not 3"),
    ],
)
def test_bad_options(source: Path, tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(LadderError, match=match):
        quantize_onnx(source, tmp_path / "out.onnx", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("format", ["qdq", "nbits"])
def test_an_output_is_already_quantized(source: Path, tmp_path: Path, format: str) -> None:
    target = tmp_path / "out.onnx"
    quantize_onnx(source, target, "int8:row", format=format, keep=())
    every = quantize_twice(target, tmp_path / "again.onnx")
    assert "nothing" in every or "already quantized: nothing was written" in every
    assert not (tmp_path / "again.onnx").exists()


def quantize_twice(source: Path, target: Path) -> str:
    with pytest.raises(NothingToQuantize) as caught:
        quantize_onnx(source, target, "int8:row")
    return str(caught.value)


def test_already_quantized_is_reported(tmp_path: Path) -> None:
    text = "g (float[M, 64] x) => (float[M, 96] y) { y = MatMul(x, w) }"
    onnx.save(graph(text, {"w": random(64, 96)}), tmp_path / "in.onnx")
    quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32")
    with pytest.raises(NothingToQuantize, match="is already quantized: nothing was written"):
        quantize_onnx(tmp_path / "out.onnx", tmp_path / "again.onnx", "int4:g32")
    assert not (tmp_path / "again.onnx").exists()


def test_no_weights(tmp_path: Path) -> None:
    onnx.save(graph("g (float[4] x) => (float[4] y) { y = Relu(x) }", {}), tmp_path / "in.onnx")
    with pytest.raises(NothingToQuantize, match=r"has nothing to quantize \(it has no weights\)"):
        quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32")


def test_rules_give_a_site_a_type_of_its_own(source: Path, tmp_path: Path) -> None:
    rules = ("p=nf4:g32", "y=fp32")
    report = quantize_onnx(source, tmp_path / "out.onnx", "int4:g32", rules=rules)
    rows = {site["name"]: (site["type"], site["form"]) for site in report["sites"]}
    assert rows["h"] == ("int4:g32", "MatMulNBits")
    assert rows["p"] == ("nf4:g32", "MatMulBnb4")
    left = {row["name"]: row["reason"] for row in report["skipped"]}
    assert left["y"] == "rule y=fp32"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    weight = random(64, 96)
    weight[3, 5] = bad
    text = "g (float[M, 64] x) => (float[M, 96] y) { y = MatMul(x, w) }"
    onnx.save(graph(text, {"w": weight}), tmp_path / "in.onnx")
    with pytest.raises(LadderError, match=r"site y: its weight has NaN or infinity; .*--keep"):
        quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32")
    assert [p.name for p in tmp_path.iterdir()] == ["in.onnx"]


def test_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(model: ir.Model, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "out.onnx"
    target.write_bytes(b"an older file")
    monkeypatch.setattr(ir, "save", half_written)
    with pytest.raises(LadderError, match=r"out.onnx: the disk is full; nothing was written"):
        quantize_onnx(source, target, "int4:g32")
    assert target.read_bytes() == b"an older file"
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "out.onnx"}


def test_missing_output_folder(source: Path, tmp_path: Path) -> None:
    with pytest.raises(LadderError, match=r"out.onnx: cannot be written \(No such file"):
        quantize_onnx(source, tmp_path / "nowhere" / "out.onnx", "int4:g32")


def test_external_data_out(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = quantize_onnx(source, tmp_path / "inline.onnx", "int4:g32")
    monkeypatch.setattr(save, "LARGEST_INLINE", 1000)
    monkeypatch.setattr(save, "SMALLEST_EXTERNAL", 16)
    target = tmp_path / "out.onnx"
    report = quantize_onnx(source, target, "int4:g32")
    data = tmp_path / "out.onnx.data"
    assert report["size_bytes"] == target.stat().st_size + data.stat().st_size
    assert data.stat().st_size > 1000 and inline["size_bytes"] > 1000
    feeds = {"x": random(2, 64)}
    assert_same(stock(target, feeds), stock(tmp_path / "inline.onnx", feeds))


def test_external_data_in(source: Path, tmp_path: Path) -> None:
    """Weights that stay float are copied to the new file, in any folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    onnx.save(
        onnx.load(source),
        tmp_path / "big.onnx",
        save_as_external_data=True,
        location="big.bin",
        size_threshold=0,
    )
    report = quantize_onnx(tmp_path / "big.onnx", folder / "out.onnx", "int4:g32", keep=("h",))
    wanted = quantize_onnx(source, tmp_path / "inline.onnx", "int4:g32", keep=("h",))
    files = (tmp_path / "big.onnx").stat().st_size + (tmp_path / "big.bin").stat().st_size
    assert report["size_bytes_before"] == files
    assert report["size_bytes"] == wanted["size_bytes"]
    feeds = {"x": random(2, 64)}
    assert_same(stock(folder / "out.onnx", feeds), stock(tmp_path / "inline.onnx", feeds))


def test_in_place(source: Path) -> None:
    before = source.stat().st_size
    quantize_onnx(source, source, "int4:g32")
    assert source.stat().st_size < before


def test_embedding_without_an_nbits_form_stays_float(tmp_path: Path) -> None:
    text = """g (int64[T] ids) => (float[T, 96] y) { x = Gather(table, ids) y = MatMul(x, w) }"""
    weights = {"table": random(50, 63), "w": random(63, 96)}
    onnx.save(graph(text, weights), tmp_path / "in.onnx")
    report = quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32", format="nbits")
    assert [site["name"] for site in report["sites"]] == ["y"]
    (left,) = report["skipped"]
    assert left["name"] == "x" and "whole bytes per row, not 63 codes of 4 bits" in left["reason"]


OCR = "rapidocr-onnxruntime==1.4.4"
VAD = "silero-vad==6.2.3"
REAL: dict[str, tuple[str, str, dict[str, np.ndarray]]] = {
    "rec": (OCR, "**/ch_PP-OCRv4_rec_infer.onnx", {"x": random(1, 3, 48, 320)}),
    "cls": (OCR, "**/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": random(1, 3, 48, 192)}),
    "det": (OCR, "**/ch_PP-OCRv4_det_infer.onnx", {"x": random(1, 3, 64, 96)}),
    "vad": (
        VAD,
        "**/silero_vad_op18_ifless.onnx",
        {
            "input": 0.1 * random(1, 576),
            "state": np.zeros((2, 1, 128), np.float32),
            "sr": np.array(16000),
        },
    ),
}


ONLY_CONVOLUTIONS = {"det"}


@pytest.mark.models
@pytest.mark.parametrize("type", ["int8:row", "int4:g32"])
@pytest.mark.parametrize(
    ("name", "format"),
    [
        *((name, "qdq") for name in REAL),
        *((name, "nbits") for name in REAL if name not in ONLY_CONVOLUTIONS),
    ],
)
def test_real_model(name: str, type: str, format: str, tmp_path: Path) -> None:
    requirement, pattern, feeds = REAL[name]
    source, target = package_file(requirement, pattern), tmp_path / "out.onnx"
    report = quantize_onnx(source, target, type, rounding="rtn", format=format)
    assert report["sites"] and all(row["reason"] for row in report["skipped"])
    onnx.checker.check_model(target, full_check=True)
    model = same_sites(source, type, {row["name"] for row in report["sites"]})
    assert_same(stock(target, feeds), meaning(model, feeds))
    assert_names_kept(onnx.load(source), onnx.load(target))


def same_sites(source: Path, type: str, names: set[str]) -> ir.Model:
    """The model before lowering, with the sites of a report rounded."""
    model: ir.Model = load_onnx(source).model
    stay = [site.name for site in find_sites(model)[0] if site.name not in names]
    return run_passes(
        model, [AllocateUniform(DType.parse(type), keep=tuple(stay)), RoundWeights("rtn")]
    )


def assert_names_kept(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    assert [v.name for v in before.graph.input] == [v.name for v in after.graph.input]
    assert [v.name for v in before.graph.output] == [v.name for v in after.graph.output]
    metadata = {(p.key, p.value) for p in before.metadata_props}
    assert metadata <= {(p.key, p.value) for p in after.metadata_props}
    nodes = {node.name for node in after.graph.node}
    outputs = {name for node in after.graph.node for name in node.output}
    for node in before.graph.node:
        if node.op_type != "Constant":
            assert node.name in nodes and set(node.output) <= outputs


@pytest.mark.models
@pytest.mark.parametrize(
    ("requirement", "pattern", "match"),
    [
        (OCR, "**/ch_PP-OCRv4_det_infer.onnx", r"2 ConvTranspose: ConvTranspose has no low-bit"),
        (VAD, "**/data/silero_vad.onnx", r"4 LSTM: LSTM has no low-bit kernel"),
    ],
)
def test_real_model_without_products(
    requirement: str, pattern: str, match: str, tmp_path: Path
) -> None:
    """Convolutions only: ONNX Runtime's own operators have none of them."""
    file = package_file(requirement, pattern)
    with pytest.raises(NothingToQuantize, match=match) as caught:
        quantize_onnx(file, tmp_path / "out.onnx", "int8:row", format="nbits")
    assert "Conv: ONNX Runtime has no low-bit convolution" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_weight_that_its_type_cannot_hold_is_reported(tmp_path: Path) -> None:
    text = "g (float[2, 64] x) => (float[2, 48] y) { [fc] y = MatMul (x, w) }"
    onnx.save(graph(text, {"w": random(64, 48) * np.float32(1e30)}), tmp_path / "in.onnx")
    report = quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32:fp16")
    (note,) = report["notes"]
    assert note.startswith("rounding of fc: the weight is lost (its error is 100%)")
    assert "out of the reach of int4:g32:fp16; take a wider scale" in note
    assert quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int4:g32")["notes"] == []
