"""Learned rounding: the model in torch equals the original, and training improves it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from small_graphs import graph, random

import ladder
from ladder.calibration.data import Data, sample_data, text_data
from ladder.calibration.gptaq import round_in_order
from ladder.calibration.hessians import collect
from ladder.calibration.learned import result
from ladder.calibration.learned.result import check_learnable, learned_of
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.facts import PreRounded
from ladder.ir.site import find_sites
from ladder.passes.rounding.one_weight import round_by
from ladder.passes.rounding.pre_rounded import load_outcome, save_outcome
from ladder.pipeline.sources import load_source
from ladder.reference import Reference

TYPE = "int2:g32"
TYPES = (TYPE, "int3:row:fp16", "uint4:g32:zp", "nf4:g48", "ternary:tensor", "int1:g32", "mxfp4",
         "nvfp4", "fp8_e4m3:row")  # fmt: skip
CHAIN = """g (float[8, 64] x) => (float[8, 64] y) {
    a = MatMul (x, p)  r = Relu (a)  b = MatMul (r, q)  s = Add (x, b)
    c = MatMul (s, u)  t = Relu (c)  d = MatMul (t, v)  y = Add (s, d)
}"""
OPERATORS = {
    "normal": """g (float[2, 8] x) => (float[2, 8] y) {
        a = LayerNormalization <axis = -1, epsilon = 0.01> (x, gain, bias)
        y = RMSNormalization <axis = -1, epsilon = 0.01> (a, gain)
    }""",
    "pieces": """g (float[2, 8] x) => (float[2, 8] y) {
        one = Constant <value = int64[1] {1}> ()
        last = Constant <value = int64[1] {-1}> ()  many = Constant <value = int64[1] {100}> ()
        a, b = Split <axis = 1, num_outputs = 2> (x)
        c = Slice (b, last, many, one)   d = Slice (a, one, many, one)
        e = Concat <axis = 1> (d, b, c)  f = Unsqueeze (e, one)  h = Squeeze (f, one)
        z = Constant <value = int64[2] {0, -1}> ()
        i = Reshape (h, z)  m = ReduceMean (i, last)  n = ReduceSum <keepdims = 1> (i, last)
        o = Softplus (m)  p = Softmax <axis = 1> (i)  q = Mul (p, n)  y = Add (q, o)
    }""",
    "points": """g (float[2, 8] x) => (float[2, 8] y) {
        two = Constant <value_float = 2.0> ()
        a = Abs (x)  b = Add (a, two)  c = Log (b)  d = Sqrt (c)  e = Reciprocal (d)
        f = Erf (x)  h = Tanh (f)  i = Neg (h)  j = Exp (i)  k = Div (j, e)  l = Pow (k, two)
        m = Gelu <approximate = "tanh"> (l)  n = LogSoftmax <axis = -1> (m)
        big = Greater (n, x)  small = Not (big)  o = Where (small, x, n)  y = Sub (o, two)
    }""",
    "attention": """g (float[1, 4, 8] x) => (float[1, 4, 8] y) {
        y = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = 1> (x, x, x)
    }""",
    "rotary": """g (float[1, 2, 3, 8] x) => (float[1, 2, 3, 8] y) {
        a = RotaryEmbedding <interleaved = 1> (x, cos, sin)
        y = RotaryEmbedding <interleaved = 0> (a, cos, sin)
    }""",
    "gemm": """g (float[2, 8] x) => (float[2, 8] y) {
        y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, square, bias)
    }""",
    "conv": """g (float[1, 4, 9] x) => (float[1, 8, 5] y) {
        y = Conv <pads = [2, 1], strides = [2], dilations = [1], group = 2> (x, taps, bias)
    }""",
}
HEADS = "q_num_heads = 2, kv_num_heads = 2"
REFUSED = {
    f"y = Attention <{HEADS}> (x, x, x, , cache, cache)": "Attention with an internal cache",
    f"y = Attention <{HEADS}, softcap = 2.0> (x, x, x)": "Attention with a softcap",
    'y = Conv <auto_pad = "SAME_UPPER"> (x, w)': "Conv with auto_pad SAME_UPPER",
    "a = Cast <to = 3> (x) y = Cast <to = 1> (a)": "Cast to INT8",
}
WEIGHTS = {
    "gain": 1 + random(8, seed=1),
    "bias": random(8, seed=2),
    "square": random(8, 8, seed=3),
    "cos": random(1, 3, 4, seed=6),
    "sin": random(1, 3, 4, seed=7),
    "taps": random(8, 2, 4, seed=4),
}


@pytest.fixture(scope="module")
def chain() -> tuple[Source, Data]:
    weights = {name: random(64, 64, seed=i) / 8 for i, name in enumerate("pquv")}
    source = Source(ir.from_proto(graph(CHAIN, weights, opset=25)), "chain", "learned-chain")
    return source, sample_data(source, {"x": random(64, 8, 64, seed=9)}, "samples")


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_onnx_runtime(name: str) -> None:
    from ladder.calibration.learned.graph import Graph

    used = {k: w for k, w in WEIGHTS.items() if k in OPERATORS[name]}
    model = ir.from_proto(graph(OPERATORS[name], used, opset=23))
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]
    x = random(*shape, seed=5)
    made = Graph(model, torch.float32)({"x": x}, {})
    np.testing.assert_allclose(made.numpy(), Reference(model).run({"x": x})["y"], atol=2e-6)


def test_a_language_model_in_torch_equals_the_reference(tiny_chat_folder: Path) -> None:
    from ladder.calibration.learned.graph import Graph

    source = load_source(tiny_chat_folder)
    [feeds] = text_data(source, _words(tiny_chat_folder), 1, 24).feeds
    with torch.no_grad():
        made = Graph(source.model, torch.float32)(feeds, {}).numpy()
    wanted = Reference(source.model).run(feeds)["logits"]
    np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize("type", TYPES)
def test_a_weight_without_training_does_not_change(type: str) -> None:
    from ladder.calibration.learned.latent import Latent

    weight, dtype = random(16, 128, seed=3), DType.parse(type)
    start = round_by("mse", weight, dtype).rounded
    latent = Latent(weight, dtype, start)
    done = latent.rounded()
    begun, exact = (dequantized(dtype, r.codes, r.scale, r.zero, r.tensor_scale)
                    for r in (start, done))  # fmt: skip
    np.testing.assert_array_equal(exact, begun)
    np.testing.assert_array_equal(done.scale, start.scale)
    np.testing.assert_allclose(latent.weight().numpy(), exact, rtol=1e-6, atol=1e-7)
    assert done.relative_error == pytest.approx(start.relative_error, rel=1e-4)


@pytest.mark.parametrize("type", ["int2:g32", "uint4:g48:zp", "nf4:row", "ternary:tensor"])
def test_gradients_of_scales_are_those_of_torch(type: str) -> None:
    from ladder.calibration.learned.latent import Latent

    weight, dtype = random(8, 128, seed=4), DType.parse(type)
    latent = Latent(weight, dtype, round_by("mse", weight, dtype).rounded)
    wanted = torch.from_numpy(random(8, 128, seed=5))
    latent.factor.requires_grad_()
    (latent.weight() * wanted).sum().backward()
    expected = latent.factor.grad.clone()
    latent.factor.requires_grad_(False)
    latent.backward(wanted)
    torch.testing.assert_close(latent.factor.grad, expected)
    latent.u[0] = 1e9  # far out of range: no gradient
    latent.backward(wanted)
    assert not latent.u.grad[0].any() and latent.u.grad[1].any()


def _words(folder: Path) -> Path:
    text = folder / "learned-words.txt"
    text.write_text("the quick brown fox jumps over the lazy dog and " * 60)
    return text


def _by_mse(source: Source, folder: Path) -> PreRounded:
    """A start that training can improve a lot."""
    files = {}
    for site in find_sites(source.model)[0]:
        files[site.name] = str(folder / f"{site.name}.npz")
        save_outcome(Path(files[site.name]), round_by("mse", site.array(), DType.parse(TYPE)))
    return PreRounded(files)


def _loss(source: Source, done: PreRounded, data: Data) -> float:
    """Mean squared error of the output with the weights of the files, relative to its power."""
    from ladder.calibration.learned.graph import Graph

    sites = find_sites(source.model)[0]
    weights = {}
    for site in sites:
        r = load_outcome(Path(done.files[site.name])).rounded
        w = dequantized(DType.parse(TYPE), r.codes, r.scale, r.zero, r.tensor_scale)
        weights[site.weight.name or ""] = torch.from_numpy(w.T.copy() if site.transposed else w)
    run = Graph(source.model, torch.float32)
    pairs = [(run(feeds, weights), run(feeds, {})) for feeds in data.feeds]
    miss = sum(float((a - b).square().sum()) for a, b in pairs)
    return miss / sum(float(b.square().sum()) for _, b in pairs)


def test_learning_improves_the_output_and_resumes(
    chain: tuple[Source, Data], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ladder.calibration.learned import train

    source, data = chain
    types = {site.name: DType.parse(TYPE) for site in find_sites(source.model)[0]}
    begun = _by_mse(source, tmp_path)
    monkeypatch.setattr(train, "SAVE_SECONDS", 0)
    steps: list[int] = []
    step = train.Training._step

    def dies(self: train.Training, windows: list[int]) -> float:
        steps.append(len(self.losses))
        if len(steps) == 60:
            raise KeyboardInterrupt
        return step(self, windows)

    monkeypatch.setattr(train.Training, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        learned_of(source, data, types, begun)
    done = learned_of(source, data, types, begun)
    assert steps == [*range(60), *range(59, train.LEAST_STEPS)]  # the 60th again, none twice
    assert _loss(source, done, data) < 0.8 * _loss(source, begun, data)
    assert done.note.startswith("learned in 100 steps of 8 windows: relative squared error 0.")
    assert not list(Path(done.files[next(iter(types))]).parent.glob(train.STATE))
    again = learned_of(source, data, types, begun)
    assert again == done and len(steps) == train.LEAST_STEPS + 1


def test_convolutions_are_learned_as_they_are_stored(tmp_path: Path) -> None:
    text = "g (float[1, 32, 12] x) => (float[1, 64, 12] y) { y = Conv <pads = [1, 1]> (x, w) }"
    proto = graph(text, {"w": random(64, 32, 3, seed=6)}, opset=25)
    source = Source(ir.from_proto(proto), "conv", "learned-conv")
    x = random(32, 8) @ random(32, 1, 8, 12, seed=7)  # correlated channels
    data = sample_data(source, {"x": x.astype(np.float32)}, "samples")
    types = {site.name: DType.parse(TYPE) for site in find_sites(source.model)[0]}
    done = learned_of(source, data, types, _by_mse(source, tmp_path))
    before, after = (float(word) for word in done.note.replace(",", "").split() if "0." in word)
    assert after < 0.95 * before


def test_without_improvement_the_start_is_kept(
    chain: tuple[Source, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ladder.calibration.learned import train

    source, data = chain
    types = {site.name: DType.parse("int3:g32") for site in find_sites(source.model)[0]}
    begun = round_in_order(source, data, types, collect(source, data))
    monkeypatch.setattr(train, "LATENT_RATE", 30.0)
    monkeypatch.setattr(train, "FACTOR_RATE", 3.0)
    done = learned_of(source, data, types, begun)
    assert done.files == begun.files
    assert done.note.endswith("no improvement, so the weights are those of gptaq")


@pytest.mark.models
def test_a_whole_compilation_learns_and_says_so(
    tiny_chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ladder.calibration.learned import train

    monkeypatch.setattr(train, "LEAST_STEPS", 20)
    report = ladder.compile(
        tiny_chat_folder,
        tmp_path / "learned",
        type="int3:g32",
        rounding="learned",
        calib=_words(tiny_chat_folder),
        context=32,
        chunk=8,
    )
    assert {row["rounding"] for row in report["sites"]} == {"learned"}
    [note] = [n for n in report["notes"] if n.startswith("learned in")]
    before, after = (float(word) for word in note.replace(",", "").split() if word[0] == "0")
    assert after < before


def test_what_cannot_be_learned_is_refused(
    chain: tuple[Source, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ladder.calibration.learned.graph import Graph

    model = ir.from_proto(graph("g (float[4] x) => (float[4] y) { y = Mish (x) }", {}, opset=23))
    with pytest.raises(LadderError, match="does not support Mish; use --rounding gptaq"):
        Graph(model, torch.float32)
    weights = {"cache": random(1, 2, 3, 4), "w": random(4, 4, 2)}
    for body, what in REFUSED.items():
        text = f"g (float[1, 4, 8] x) => (float[1, 4, 8] y) {{ {body} }}"
        model = ir.from_proto(graph(text, weights, opset=23))
        with pytest.raises(LadderError, match=f"does not support {what};"):
            Graph(model, torch.float32)
    source, _ = chain
    monkeypatch.setattr(result, "BYTES_EACH", 1e12)
    types = {site.name: DType.parse("int4:g32") for site in find_sites(source.model)[0]}
    with pytest.raises(LadderError, match=r"GB for 0 M weights, but only .* GB are free; use"):
        check_learnable(source, types)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(result, "BYTES_EACH", 1)
    with pytest.raises(LadderError, match=r"needs torch .*; pip install 'ladder\[hf\]'"):
        check_learnable(source, types)
