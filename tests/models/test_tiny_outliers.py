"""A compiled tiny model with outlier channels: the artifact has the chosen outlier method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from outliers import prepare
from tiny import CHUNK, CONTEXT

from ladder.calibration.activations import collect_activations
from ladder.calibration.data import text_data
from ladder.evaluation.report_page import page
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel
from ladder.runtime import load
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
WORDS = "The quick brown fox jumps over the lazy dog; and so it goes on, from line to line.\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(WORDS * 200)
    return path


@pytest.fixture(scope="module")
def hard(tiny_chat_folder: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    source = load_source(tiny_chat_folder)
    folder = tmp_path_factory.mktemp("seen")
    known = collect_activations(source, text_data(source, text, 4, 64), 1, folder)
    return prepare(source, known, 2).source


def test_the_artifact_has_the_remedy(hard: Source, text: Path, tmp_path: Path) -> None:
    tokens = [ord(c) for c in WORDS[:48]]
    exact = ReferenceLanguageModel(hard.model, hard.states, CONTEXT).feed(tokens)
    lost, bits = {}, {}
    for method in ("none", "digits"):
        options = CompileOptions(
            type=DType.parse("int8:row"),
            activation="int8:tensor",
            outliers=method,
            calib=None if method == "none" else text,
            context=CONTEXT,
            chunk=CHUNK,
        )
        report = compile_model(hard, tmp_path / method, options).report
        bits[method] = report["bits_per_weight"]
        model = load(tmp_path / method)
        assert isinstance(model, LanguageModel)
        found = model.feed(tokens)
        lost[method] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        if method == "none":
            continue
        chosen = {site["name"]: site for site in report["sites"] if "outlier_errors" in site}
        muxed = [name for name, site in chosen.items() if site["outliers"] == "digits"]
        assert any(name.endswith("q_proj") for name in muxed)
        reasons = " ".join(row["reason"] for row in report["kernels"])
        assert "outlier channels muxed (digits7)" in reasons
        again = sum(site["n"] * site["outlier_channels"] for site in chosen.values())
        weights = sum(site["n"] * site["k"] for site in report["sites"])
        assert again and bits["digits"] - bits["none"] > 8 * again / weights - 1e-3
        shown = page(json.loads((tmp_path / method / "manifest.json").read_text()))
        assert "outliers of its input" in shown and "errors of products" in shown
    assert lost["digits"] < 0.5 * lost["none"]
