"""Models of transformers with recurrent states: as ONNX files, and compiled without a context."""

from __future__ import annotations

from pathlib import Path

import families
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import ladder
import ladder.runtime
from ladder.frontend.huggingface import trace_model
from ladder.frontend.load import load
from ladder.frontend.types import Source
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.language_model import LanguageModel

pytestmark = pytest.mark.models
CONTEXT, CHUNK = 16, 8
TOKENS: list[int] = np.random.default_rng(2).integers(3, families.VOCABULARY, 29).tolist()


@pytest.fixture(scope="module")
def rwkv() -> Source:
    """Its states have reset values of their own, and none of them has rows."""
    source = trace_model(families.build(families.RIGHT["RWKV"]()), {}, "RWKV", "digest")
    run_passes(source.model, PREPARE)
    return source


@pytest.fixture(scope="module")
def file(rwkv: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "rwkv.onnx"
    ir.save(rwkv.model.clone(), path)
    return path


def logits_of(path: Path, source: Source, sizes: list[int]) -> np.ndarray:
    model = ReferenceLanguageModel(path, source.states, CONTEXT)
    pieces = np.split(np.array(TOKENS), np.cumsum(sizes))
    return np.concatenate([model.feed(piece.tolist()) for piece in pieces])


def test_a_file_has_the_same_states(rwkv: Source, file: Path) -> None:
    assert load(file).states == rwkv.states


@pytest.mark.parametrize("activation", ["fp32", "int8:token"])
def test_a_quantized_file_carries_its_states(
    rwkv: Source, file: Path, tmp_path: Path, activation: str
) -> None:
    target = tmp_path / "quantized.onnx"
    report = ladder.export_onnx(file, target, type="int8:row", activation=activation)
    assert {site["role"] for site in report["sites"]} >= {"rwkv.receptance", "rwkv.mlp.value"}
    wanted = logits_of(file, rwkv, [])
    whole, pieces = (logits_of(target, rwkv, sizes) for sizes in ([], [1, 9, 3]))
    norm = np.linalg.norm(wanted)
    assert 0 < np.linalg.norm(whole - wanted) < 0.05 * norm
    assert np.linalg.norm(pieces - whole) < 1e-4 * norm
    assert [(f.domain, f.name) for f in onnx.load(target).functions] == [("ladder", "Wkv")]


@pytest.mark.kernels
def test_a_model_without_rows_takes_texts_of_any_length(rwkv: Source, tmp_path: Path) -> None:
    ladder.compile(rwkv, tmp_path / "artifact", type="int8:row", context=CONTEXT, chunk=CHUNK)
    model = ladder.runtime.load(tmp_path / "artifact")
    assert isinstance(model, LanguageModel)
    first = model.feed(TOKENS)
    assert model.position == len(TOKENS) > CONTEXT
    assert len(list(model.stream(TOKENS, CONTEXT))) == CONTEXT
    model.reset()
    assert np.array_equal(model.feed(TOKENS), first)
