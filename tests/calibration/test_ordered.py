"""GPTAQ, compared with whole models: each layer compensates for the error of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

import ladder
from ladder import register_type
from ladder.blockwise.weights import find_groups
from ladder.calibration import gptaq as ordered
from ladder.calibration.data import Data, sample_data, text_data
from ladder.calibration.gptaq import round_in_order
from ladder.calibration.hessians import collect
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.blocks import find_blocks
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.element import ELEMENTS
from ladder.ir.facts import PreRounded
from ladder.ir.site import find_sites
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.passes.rounding.one_weight import round_by
from ladder.passes.rounding.pre_rounded import load_outcome, save_outcome
from ladder.pipeline.sources import load_source
from ladder.reference import Reference

TYPE = "int2:g32"
CHAIN = """g (float[8, 64] x) => (float[8, 64] y) {
    a = MatMul (x, p)  r = Relu (a)  b = MatMul (r, q)  s = Add (x, b)
    c = MatMul (s, u)  t = Relu (c)  d = MatMul (t, v)  y = Add (s, d)
}"""


@pytest.fixture(scope="module")
def chain() -> tuple[Source, Data]:
    weights = {name: random(64, 64, seed=i) / 8 for i, name in enumerate("pquv")}
    source = Source(ir.from_proto(graph(CHAIN, weights, opset=25)), "chain", "chain-of-tests")
    causes = random(64, 8, 16, seed=9)
    mixed = causes @ random(16, 64, seed=10) + 0.1 * random(64, 8, 64, seed=11)
    return source, sample_data(source, {"x": mixed.astype(np.float32)}, "samples")


def types_of(source: Source, type: str = TYPE) -> dict[str, DType]:
    return {site.name: DType.parse(type) for site in find_sites(source.model)[0]}


def with_weights(model: ir.Model, weights: Mapping[str, np.ndarray]) -> ir.Model:
    copy = facts.clone(model)
    for name, array in weights.items():
        copy.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return copy


def rounded(source: Source, done: PreRounded) -> ir.Model:
    """The model with the weights of the files."""
    weights = {}
    for site in find_sites(source.model)[0]:
        r = load_outcome(Path(done.files[site.name])).rounded
        w = dequantized(DType.parse(TYPE), r.codes, r.scale, r.zero, r.tensor_scale)
        weights[site.weight.name or ""] = np.ascontiguousarray(w.T if site.transposed else w)
    return with_weights(source.model, weights)


def error(source: Source, model: ir.Model, data: Data) -> float:
    exact, other = Reference(source.model), Reference(model)
    miss = power = 0.0
    for window in data.feeds:
        y = exact.run(window)["y"]
        miss += float(np.square(y - other.run(window)["y"]).sum())
        power += float(np.square(y).sum())
    return float((miss / power) ** 0.5)


def test_it_loses_less_than_rounding_each_site_alone(chain: tuple[Source, Data]) -> None:
    source, data = chain
    static = collect(source, data, 1)
    done = round_in_order(source, data, types_of(source), static, 1)
    assert set(done.files) == set(types_of(source))
    alone: dict[str, np.ndarray] = {}
    for site in find_sites(source.model)[0]:
        r = round_by("gptq", site.array(), DType.parse(TYPE), np.load(static.files[site.name]))
        w = dequantized(DType.parse(TYPE), r.rounded.codes, r.rounded.scale)
        alone[site.weight.name or ""] = np.ascontiguousarray(w.T if site.transposed else w)
    plain = error(source, with_weights(source.model, alone), data)
    assert error(source, rounded(source, done), data) < 0.9 * plain


def test_the_first_layer_is_rounded_as_by_gptq(chain: tuple[Source, Data]) -> None:
    """Nothing was lost before it."""
    source, data = chain
    static = collect(source, data, 1)
    done = round_in_order(source, data, types_of(source), static, 1)
    first = find_sites(source.model)[0][0]
    hessian = np.load(static.files[first.name])
    wanted = round_by("gptq", first.array(), DType.parse(TYPE), hessian).rounded
    found = load_outcome(Path(done.files[first.name])).rounded
    assert (found.codes == wanted.codes).all() and (found.scale == wanted.scale).all()


def test_a_killed_run_resumes(
    chain: tuple[Source, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, data = chain
    static, types = collect(source, data, 1), types_of(source)
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "one"))
    whole = round_in_order(source, data, types, static, 1)
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "two"))
    made: list[Path] = []

    def save(path: Path, outcome: Any) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        save_outcome(path, outcome)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ordered, "save_outcome", save)
        round_in_order(source, data, types, static, 1)
    finished = (tmp_path / "two" / "ordered").glob("*/*.npz")
    times = {path: path.stat().st_mtime_ns for path in finished}
    again = round_in_order(source, data, types, static, 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times and len(times) == 2
    for site, file in whole.files.items():
        a, b = (load_outcome(Path(f)).rounded for f in (file, again.files[site]))
        assert (a.codes == b.codes).all() and (a.scale == b.scale).all()
    monkeypatch.setattr(ordered, "_Order", None)  # a third run does nothing at all
    assert round_in_order(source, data, types, static, 1) == again


@pytest.mark.parametrize("type", ["int3:g32", "uint4:g32:zp", "nvfp4", "int4:g32:bf16", "nf4:g32"])
def test_files_hold_every_type(type: str, tmp_path: Path) -> None:
    dtype = DType.parse(type)
    outcome = round_by("mse", random(16, 64), dtype)
    save_outcome(tmp_path / "w.npz", outcome)
    found = load_outcome(tmp_path / "w.npz")
    a, b = outcome.rounded, found.rounded
    assert (a.codes == b.codes).all() and a.codes.dtype == b.codes.dtype
    assert (a.scale == b.scale).all() and a.scale.dtype == b.scale.dtype
    assert (a.zero is None) == (b.zero is None) and a.tensor_scale == b.tensor_scale
    assert (found.method, a.relative_error, a.note) == ("mse", b.relative_error, b.note)


def test_an_invalid_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"no weight")
    with pytest.raises(LadderError, match=r"w\.npz: cannot read this rounded weight"):
        load_outcome(tmp_path / "w.npz")


def test_the_pass_alone_refuses(chain: tuple[Source, Data]) -> None:
    model = facts.clone(chain[0].model)
    steps = parse_pipeline("allocate-uniform{type=int2:g32},round-weights{method=gptaq}")
    with pytest.raises(
        LadderError, match="rounding 'gptaq' works through the whole model in order"
    ):
        run_passes(model, steps)


@pytest.mark.models
def test_a_language_model(tiny_chat_folder: Path, tmp_path: Path) -> None:
    """Compiled, and evaluated as a plan; the tied embedding is rounded first."""
    text = tmp_path / "words.txt"
    text.write_text("The quick brown fox jumps over the lazy dog; and so it goes on.\n" * 200)
    options: dict[str, Any] = {"calib": str(text), "tokens": 16, "rounding": "gptaq"}
    sizes: dict[str, Any] = {"context": 32, "chunk": 8, "type": "int3:g32"}
    report = ladder.compile(tiny_chat_folder, tmp_path / "out", **options, **sizes)
    methods = {site["name"]: site["rounding"] for site in report["sites"]}
    assert set(methods.values()) == {"gptaq"}
    source = load_source(tiny_chat_folder)
    planned = ladder.plan(source, bpw="3.5", types="int2:g32,int4:g32", **options)
    assert planned["measured"]["kl"] > 0
    static = collect(source, text_data(source, text, 2, 16))
    assert set(static.missing) == {"model.embed_tokens"}


def test_a_users_type_with_another_book_is_rounded_again(chain: tuple[Source, Data]) -> None:
    """Keys of files have all that they depend on, not only the name of a type."""
    source, data = chain
    static = collect(source, data, 1)
    group = find_groups(source.model, find_blocks(source.model))[0]
    found = []
    for book in ((-1.0, -0.3, 0.3, 1.0), (-1.0, -0.1, 0.1, 1.0)):
        ELEMENTS.pop("mine", None)
        register_type("mine", book)
        done = round_in_order(source, data, types_of(source, "mine:g32"), static, 1)
        alone = RoundedWeights(source, "mse", None)(group, DType.parse("mine:g32"))
        found.append((Path(done.files[group.name]), alone))
    assert found[0][0] != found[1][0] and (found[0][1] != found[1][1]).any()
