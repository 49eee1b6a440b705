"""The pass mux-outliers: what it finds, what it chooses, and that folding changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers as hf
from exact_floats import with_float_products
from hybrid import TOKENS, VOCABULARY, Logits, falcon_h1, mamba, mamba2
from small_graphs import graph, random

import ladder
from ladder.calibration.activations import collect_activations
from ladder.calibration.data import sample_data
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Muxing, StaticScales
from ladder.ir.mux import Mux
from ladder.ir.outliers import Activations, OutlierChoice, Outliers
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_types import LowerTypes
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.muxing.find import Rule, digits_for
from ladder.passes.round_weights import RoundWeights
from ladder.reference import Reference


def llama() -> Any:
    """Two query heads for each key head: value channels are tied."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = hf.LlamaConfig(hidden_size=32, intermediate_size=48, vocab_size=VOCABULARY, **shape)
    return hf.LlamaForCausalLM(config)


def gpt2() -> Any:
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4))


# Sites by the end of their names: those whose inputs fold, and some that do not, with the reason.
FOLDED = {
    llama: ({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, {}),
    gpt2: (
        {"attn.c_attn", "attn.c_proj", "mlp.c_fc"},
        {"mlp.c_proj": "is not linear", "lm_head": "other users"},
    ),
    mamba: ({"in_proj"}, {"x_proj": "reads 'transpose"}),
    mamba2: ({"in_proj", "out_proj"}, {}),
    falcon_h1: ({"q_proj", "v_proj", "down_proj"}, {}),
}


def traced(make: Callable[[], Any]) -> Source:
    torch.manual_seed(0)
    model = make()
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name or name.endswith("bias"):  # not all ones and zeros
            torch.nn.init.uniform_(parameter, 0.1, 3.0)
    ids = (torch.arange(TOKENS)[None],)
    source = ladder.load(Logits(model), ids, input_names=["ids"])
    run_passes(source.model, [CleanUp(), FuseOperators()])
    return source


def samples() -> dict[str, np.ndarray]:
    return {"ids": np.random.default_rng(0).integers(0, VOCABULARY, (4, 1, TOKENS))}


def remedied(source: Source, folder: Path, seen: dict[str, np.ndarray], **options: Any) -> ir.Model:
    """A copy after the pass, int8:row, calibrated on samples of its inputs."""
    model = facts.clone(source.model)
    data = sample_data(source, seen, "samples")
    facts.put(model, collect_activations(source, data, 1, folder))
    return run_passes(model, [AllocateUniform(DType.parse("int8:row")), MuxOutliers(**options)])


def choices(model: ir.Model) -> Mapping[str, OutlierChoice]:
    found = facts.get(model, Outliers)
    assert found is not None
    return found.choices


@pytest.mark.models
@pytest.mark.parametrize("make", FOLDED, ids=lambda make: make.__name__)
def test_folding_changes_no_output(make: Callable[[], Any], tmp_path: Path) -> None:
    source, seen = traced(make), samples()
    model = remedied(source, tmp_path, seen, method="smooth", activation="int8:tensor")
    chosen = choices(model)
    folded, refused = FOLDED[make]
    for name, choice in chosen.items():
        end = [part for part in (*folded, *refused) if name.endswith(part)]
        if end and end[0] in folded:
            assert choice.method == "smooth", f"{name}: {choice.reason}"
        elif end:
            assert refused[end[0]] in choice.refused["smooth"], name
    feeds = {"ids": seen["ids"][0]}
    before, after = (Reference(m).run(feeds) for m in (source.model, model))
    for name, wanted in before.items():
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(after[name], wanted, atol=1e-5 * float(np.abs(wanted).max()))
    weights = [
        (site.array(), other.array())
        for site, other in zip(find_sites(source.model)[0], find_sites(model)[0], strict=True)
        if chosen[site.name].method == "smooth"
    ]
    assert any((a != b).any() for a, b in weights)


# Two sites that read one value, and a norm before it: 3 of 48 channels are outliers.
TWO = """g (float[64, 48] x) => (float[64, 20] y, float[64, 12] z) {
  n = LayerNormalization(x, gain, bias)
  y = MatMul(n, "a.weight")
  z = Gemm<transB = 1>(n, "b.weight", c)
}"""
OUTLIERS = (5, 17, 40)


def two() -> Source:
    gain = np.abs(random(48)) + 0.5
    gain[list(OUTLIERS)] *= (20, 60, 90)
    weights = {"gain": gain, "bias": random(48), "c": random(12)}
    weights |= {"a.weight": random(48, 20), "b.weight": random(12, 48)}
    return Source(ir.from_proto(graph(TWO, weights, 23)), "two", "two")


def two_samples() -> dict[str, np.ndarray]:
    return {"x": random(1, 64, 48, seed=3)}


def errors(model: ir.Model, exact: ir.Model) -> list[float]:
    """Errors of the lowered products, defined as in the pass: each token relative to its size."""
    feeds = {name: array[0] for name, array in two_samples().items()}
    wanted, found = Reference(exact).run(feeds), Reference(model).run(feeds)
    bias = {"y": np.float32(0), "z": random(12)}
    return [
        float(
            np.sqrt(
                np.mean(
                    np.square(found[name] - wanted[name]).sum(1)
                    / np.square(wanted[name] - bias[name]).sum(1)
                )
            )
        )
        for name in ("y", "z")
    ]


MODES = ("int8:tensor", "int6:token", "int8:static", "int5:tensor")
WAYS = [(method, mode) for method in ("muxq", "digits", "smooth") for mode in MODES]


@pytest.mark.parametrize(("method", "mode"), [("none", "int8:static"), *WAYS])
def test_errors_are_those_of_the_lowered_model(method: str, mode: str, tmp_path: Path) -> None:
    source = two()
    model = remedied(source, tmp_path, two_samples(), method=method, activation=mode)
    chosen = choices(model)
    assert {choice.method for choice in chosen.values()} == {method}
    muxed, scales = facts.get(model, Muxing), facts.get(model, StaticScales)
    assert muxed is not None
    assert set(muxed.sites) == ({"a", "b"} if method in ("muxq", "digits") else set())
    assert scales is not None and set(scales.scales) == ({"a", "b"} if "static" in mode else set())
    run_passes(model, [RoundWeights("rtn"), LowerTypes(mode)])
    reported = [chosen[name].errors[method] for name in ("a", "b")]
    assert errors(model, source.model) == pytest.approx(reported, rel=1e-3)


@pytest.mark.parametrize("mode", ["int8:tensor", "int6:tensor", "int8:token"])
def test_digits_beat_muxq_beats_none(mode: str, tmp_path: Path) -> None:
    found = choices(remedied(two(), tmp_path, two_samples(), method="auto", activation=mode))
    for choice in found.values():
        tried = choice.errors
        assert tried["digits"] < tried["muxq"] < 0.7 * tried["none"]
        assert choice.channels == (3 if choice.method == "digits" else 0)
    assert len({choice.method for choice in found.values()}) == 1  # one value, one remedy


def test_without_outliers_nothing_is_done(tmp_path: Path) -> None:
    source = two()
    gain = source.model.graph.initializers["gain"]
    gain.const_value = ir.tensor(np.ones(48, np.float32), name="gain")
    options = {"method": "auto", "activation": "int8:token"}
    for tails in (False, True):
        model = remedied(source, tmp_path, two_samples(), tails=tails, **options)
        for choice in choices(model).values():
            assert choice.method == "none" and choice.errors["none"] < 0.02
            if not tails:
                assert choice.refused["digits"] == "no channel is over 3 times the typical one"
        assert facts.get(model, Muxing) == Muxing({})


def test_which_channels_are_outliers() -> None:
    largest = np.array([1, 1, 0, 2, 7, 100, 1, 40], np.float32)
    assert Rule("relative", 3, 0.5).channels(largest).tolist() == [4, 5, 7]
    assert Rule("relative", 3, 0.25).channels(largest).tolist() == [5, 7]
    assert Rule("absolute", 1.5, 0.9).channels(largest).tolist() == [3, 4, 5, 7]
    assert [s.tolist() for s in Rule("relative", 3, 0.5).sets(largest)] == [[5], [5, 7], [4, 5, 7]]
    assert [s.tolist() for s in Rule("absolute", 6, 0.5).sets(largest)] == [[4, 5, 7]]
    assert Rule("relative", 6, 0.5).sets(np.zeros(4, np.float32)) == []
    sets = Rule("relative", 3, 0.5, tails=True).sets(largest)
    assert [s.tolist() for s in sets] == [[5], [5, 7], [4, 5, 7], list(range(8))]


@pytest.mark.parametrize("bits", [8, 7, 6, 5, 4])
@pytest.mark.parametrize("ratio", [1.5, 7.0, 60.0, 900.0, 1e7])
def test_the_fewest_digits_that_reach(bits: int, ratio: float) -> None:
    dtype, mode = DType.parse("int4:row"), f"int{bits}:tensor"
    mux = digits_for(ratio, mode, dtype, 2048, 20)
    assert mux.refuse(mode, dtype, 2048, 20) is None
    fewer = Mux("digits", bits - 1, mux.digits - 1)
    assert mux.digits == 1 or fewer.reach < ratio
    assert mux.reach >= ratio or ratio > 8**3  # beyond three digits, or beyond an int32


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("mux-outliers", "needs BitPlan"),
        ("allocate-uniform{type=int8:row},mux-outliers", "calibration data"),
        ("allocate-uniform{type=int8:row},mux-outliers{method=best}", "unknown method 'best'"),
        ("allocate-uniform{type=int8:row},mux-outliers{rule=any}", "unknown rule 'any'"),
        ("allocate-uniform{type=int8:row},mux-outliers{alpha=2}", "alpha 2: give a number"),
        ("allocate-uniform{type=int8:row},mux-outliers{most=1.5}", "a share between 0 and 1"),
        ("allocate-uniform{type=int8:row},mux-outliers{exponent=9}", "exponent 9 of muxq"),
    ],
)
def test_refusals(pipeline: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        run_passes(two().model, parse_pipeline(pipeline))


def test_stale_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 7), np.float32))
    model = two().model
    facts.put(model, Activations({"a": str(tmp_path / "a.npy")}, {"b": "why not"}, 1, "text"))
    with pytest.raises(LadderError, match="does not have 48 channels: it is stale"):
        run_passes(model, [AllocateUniform(DType.parse("int8:row")), MuxOutliers("digits")])


def test_code_books_are_not_muxed(tmp_path: Path) -> None:
    source = two()
    model = facts.clone(source.model)
    data = sample_data(source, two_samples(), "samples")
    facts.put(model, collect_activations(source, data, 1, tmp_path))
    options = MuxOutliers("digits", "int8:tensor")
    run_passes(model, [AllocateUniform(DType.parse("nf4:g16")), options])
    for choice in choices(model).values():
        assert choice.method == "none" and "only integer weights" in choice.reason


def test_a_value_with_another_reader_is_not_folded(tmp_path: Path) -> None:
    text = TWO.replace("z = Gemm", "m = Relu(n)\n  z = Gemm").replace('(n, "b', '(m, "b')
    assert "(m, " in text
    source = two()
    weights = {
        name: value.const_value.numpy()
        for name, value in source.model.graph.initializers.items()
        if value.const_value is not None
    }
    model = ir.from_proto(graph(text, weights, 23))
    model = remedied(replace(source, model=model), tmp_path, two_samples(), method="smooth")
    found = choices(model)
    assert found["a"].method == "none" and "Relu also reads 'n'" in found["a"].reason
    assert found["b"].method == "none" and "is read twice" in found["b"].reason


def test_float_products_are_the_same_integers(tmp_path: Path) -> None:
    """The float products that measure outliers, for speed, give the same bits."""
    mode, feeds = "int8:tensor", {"x": two_samples()["x"][0]}
    model = remedied(two(), tmp_path, two_samples(), method="digits", activation=mode)
    run_passes(model, [RoundWeights("rtn"), LowerTypes(mode)])
    wanted = Reference(model).run(feeds)
    found = Reference(with_float_products(model)).run(feeds)
    for name in ("y", "z"):
        np.testing.assert_array_equal(found[name], wanted[name])
