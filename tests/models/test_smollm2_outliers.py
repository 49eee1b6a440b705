"""SmolLM2 with outlier channels in its norms: the loss of int8 activations, by method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from exact_floats import with_float_products
from fetch import package_file
from kernel_cases import HERE
from llm_int8 import Oracle, llm_int8, with_rounded_weights
from outliers import Prepared, prepare
from small_graphs import graph, stock

from ladder.calibration.activations import collect_activations
from ladder.calibration.data import text_data
from ladder.calibration.texts import WIKIPEDIA, encode, wiki_text
from ladder.demo import MODEL
from ladder.evaluation.evaluate import evaluate
from ladder.export.onnx_out import FileForm, rewrite
from ladder.frontend.types import Source, states_of
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import MuxedSite, Muxing, StaticScales
from ladder.ir.outliers import Activations
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_types import LowerTypes
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.round_weights import RoundWeights
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("smollm2")]
SCORED, WINDOW, CHUNK = 256, 256, 64
TYPE, MODE = "int8:row", "int8:tensor"
# An output of a norm, an input whose largest channel needs two more digits, one with long tails.
SITES = {
    "q": ("model.layers.11.self_attn.q_proj", "digits7"),
    "spike": ("model.layers.11.mlp.down_proj", "digits5x2"),
    "tails": ("model.layers.5.mlp.down_proj", "digits5"),
}


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


@pytest.fixture(scope="module")
def known(hard: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Activations:
    return seen(hard.source, tmp_path_factory.mktemp("hard"))


def remedied(hard: Prepared, known: Activations, method: str) -> ir.Model:
    model = facts.clone(hard.source.model)
    facts.put(model, known)
    return run_passes(model, [AllocateUniform(DType.parse(TYPE)), MuxOutliers(method, MODE)])


@pytest.fixture(scope="module")
def muxed(hard: Prepared, known: Activations) -> ir.Model:
    return remedied(hard, known, "digits")


def perplexity(model: ir.Model, tokens: list[int], chunk: int = CHUNK) -> float:
    lowered = with_float_products(model)
    reference = ReferenceLanguageModel(lowered, states_of(model), WINDOW, chunk=chunk)
    return evaluate(reference, tokens, WINDOW).perplexity


def test_outliers_cost_little(
    source: Source, hard: Prepared, known: Activations, muxed: ir.Model, tokens: list[int]
) -> None:
    """Bad without an outlier method, mostly repaired by muxq; digits equal a float product."""
    assert len(hard.channels) == 60  # both norms of 30 blocks; lm_head's weight is the embedding
    exact = perplexity(facts.clone(hard.source.model), tokens, WINDOW)
    before = perplexity(facts.clone(source.model), tokens, WINDOW)
    assert exact == pytest.approx(before, rel=1e-4)
    found = {}
    for method in ("none", "muxq", "digits"):
        model = muxed if method == "digits" else remedied(hard, known, method)
        lowered = run_passes(facts.clone(model), [RoundWeights("rtn"), LowerTypes(MODE)])
        found[method] = perplexity(lowered, tokens)
    rounded = with_rounded_weights(hard.source.model, TYPE, "rtn")
    oracle = perplexity(llm_int8(rounded, Oracle(8)), tokens)
    weights = perplexity(rounded, tokens, WINDOW)
    lost = {method: float(np.log(found[method] / exact)) for method in found}
    assert found["none"] > 1.5 * exact
    assert lost["muxq"] < 0.3 * lost["none"]
    assert found["digits"] < 1.03 * exact  # of so few tokens rounding weights alone costs 1.7 %
    assert found["digits"] < 1.01 * weights
    assert found["digits"] <= 1.002 * oracle


def product(hard: Prepared, muxed: ir.Model, which: str, scale: float = 0.0) -> ir.Model:
    """The product of a site, rounded and muxed as in the model.

    With ``scale``, the scale of static activations, the scales of the weights are 1.
    """
    site = next(s for s in find_sites(hard.source.model)[0] if s.name == SITES[which][0])
    text = f'g (float[64, {site.k}] x) => (float[64, {site.n}] y) {{ y = MatMul(x, "w.weight") }}'
    model: ir.Model = ir.from_proto(graph(text, {"w.weight": site.array().T}))
    facts.put(model, Muxing({"w": muxed_site(muxed, which)}))
    run_passes(model, [AllocateUniform(DType.parse(TYPE)), RoundWeights("rtn")])
    if scale:
        facts.put(model, StaticScales({"w": scale}))
        (ones,) = (v for name, v in model.graph.initializers.items() if name.endswith(".scale"))
        assert ones.const_value is not None
        array = np.ones_like(ones.const_value.numpy())
        ones.const_value = ir.Tensor(array, name=ones.name)
    return model


def muxed_site(muxed: ir.Model, which: str) -> MuxedSite:
    found = facts.get(muxed, Muxing)
    assert found is not None
    return found.sites[SITES[which][0]]


@pytest.mark.kernels
@pytest.mark.parametrize("which", SITES)
def test_the_exported_product_is_the_compiled_one(
    hard: Prepared, known: Activations, muxed: ir.Model, which: str
) -> None:
    """On the tokens of the calibration text: equal accumulators, and outputs to 1e-5."""
    name, mux = SITES[which]
    assert muxed_site(muxed, which).mux == mux
    x = np.load(known.files[name])[1:65]
    got, wanted = both(hard, muxed, which, x)
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
    scale = float(np.exp2(np.ceil(np.log2(np.abs(x).max() / 127 / 64))))
    got, wanted = (y / np.float32(scale) for y in both(hard, muxed, which, x, scale))
    assert (wanted == np.rint(wanted)).all() and np.abs(wanted).max() > 1000
    np.testing.assert_array_equal(got, wanted)


def both(
    hard: Prepared, muxed: ir.Model, which: str, x: np.ndarray, scale: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of ONNX Runtime for the exported product, and of the compiled kernels."""
    mode, feeds = "int8:static" if scale else MODE, {"x": x}
    exported = product(hard, muxed, which, scale)
    rewrite(exported, FileForm(activation=mode))
    lowered = run_passes(product(hard, muxed, which, scale), [LowerTypes(mode)])
    (got,), (wanted,) = stock(exported, feeds), run_compiled(lowered, HERE[-1], feeds).outputs
    return got, wanted
