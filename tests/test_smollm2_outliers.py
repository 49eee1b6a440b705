"""SmolLM2 with outlier channels in its norms: eight bits for all of a call, and what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exact_floats import with_float_products
from fetch import package_file
from llm_int8 import Oracle, llm_int8, with_rounded_weights
from outliers import Prepared, prepare

from ladder.calibrated.activations import collect_activations
from ladder.demo import MODEL
from ladder.driver import load_source
from ladder.evaluate import evaluate
from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.outliers import Activations
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.lower_types import LowerTypes
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.round_weights import RoundWeights
from ladder.passes.runner import run_passes
from ladder.reference import ReferenceLanguageModel
from ladder.sensitivity.data import text_data
from ladder.texts import WIKIPEDIA, encode, wiki_text

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("smollm2")]
SCORED, WINDOW, CHUNK = 256, 256, 64
TYPE, MODE = "int8:row", "int8:tensor"


@pytest.fixture(scope="module")
def source() -> Source:
    return load_source(package_file(*MODEL))


@pytest.fixture(scope="module")
def tokens(source: Source) -> list[int]:
    return encode(source, wiki_text(package_file(*WIKIPEDIA)))[:SCORED]


def seen(source: Source, folder: Path) -> Activations:
    return collect_activations(source, text_data(source, None, 8, 128), 0, folder)


@pytest.fixture(scope="module")
def hard(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(source, seen(source, tmp_path_factory.mktemp("plain")))


def perplexity(model: object, tokens: list[int]) -> float:
    lowered = with_float_products(model)  # type: ignore[arg-type]
    return evaluate(ReferenceLanguageModel(lowered, WINDOW, chunk=CHUNK), tokens, WINDOW).perplexity


def test_outliers_cost_little(
    source: Source, hard: Prepared, tokens: list[int], tmp_path: Path
) -> None:
    """Ruined without a remedy, mostly repaired by muxq; digits are as good as a float product."""
    assert len(hard.channels) == 60  # both norms of 30 blocks; lm_head's weight is the embedding
    exact = perplexity(facts.clone(hard.source.model), tokens)
    before = perplexity(facts.clone(source.model), tokens)
    assert exact == pytest.approx(before, rel=1e-4)
    known, found = seen(hard.source, tmp_path), {}
    for method in ("none", "muxq", "digits"):
        model = facts.clone(hard.source.model)
        facts.put(model, known)
        passes = [AllocateUniform(TYPE), MuxOutliers(method, MODE), RoundWeights("rtn")]
        run_passes(model, [*passes, LowerTypes(MODE)])
        found[method] = perplexity(model, tokens)
    rounded = with_rounded_weights(hard.source.model, TYPE, "rtn")
    oracle = perplexity(llm_int8(rounded, Oracle(8)), tokens)
    lost = {method: float(np.log(found[method] / exact)) for method in found}
    assert found["none"] > 1.5 * exact
    assert lost["muxq"] < 0.3 * lost["none"]
    assert found["digits"] < 1.04 * exact
    assert found["digits"] <= 1.002 * oracle
