"""The codes of a checkpoint are kept where the site gets the type that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoints
import gguf
import gguf_files
import numpy as np
import onnx_ir as ir
import pytest
import torch
from packed_checkpoints import CASES, compressed

from ladder.frontend.checkpoints import Folder, Gguf, read_model
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Rounding
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions
from ladder.options.schema import options_of
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.pipeline.compile import compile_model
from ladder.pipeline.source_plan import KEPT, NO_EQUAL, OTHERS, source_plan
from ladder.pipeline.sources import load_source
from ladder.pipeline.steps import put_types
from ladder.runtime import load
from ladder.runtime.language_model import LanguageModel

pytestmark = pytest.mark.models
FORMATS = (
    "compressed int4", "compressed uint4", "compressed int8", "compressed fp8",
    "compressed nvfp4", "compressed mxfp4", "compressed int8 packed",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose seven products are stored in seven types."""
    tensors, by_name = checkpoints.weights(), {case.name: case for case in CASES}
    for owner, name in zip(checkpoints.projections(), FORMATS, strict=True):
        n, k = tensors.pop(f"{owner}.weight").shape
        made = by_name[name].pack(n, k)
        tensors |= {owner + end: tensor for end, tensor in made.tensors.items()}
    mixed = compressed("mixed-precision")
    return checkpoints.write(tmp_path_factory.mktemp("mixed") / "m", tensors, mixed)


def types_in_folder() -> dict[str, str]:
    types = {case.name: str(DType.parse(case.type)) for case in CASES if case.type}
    owners = checkpoints.projections()
    return {owner: types[name] for owner, name in zip(owners, FORMATS, strict=True)}


def rounded(source: Source, type: str = "", **given: Any) -> ir.Model:
    """Rounded to a type, or, without one, to those of the checkpoint."""
    model = facts.clone(source.model)
    options = options_of(CompileOptions, {**given, **({"type": type} if type else {})})
    put_types(model, source, options, None if type else source_plan(source, options))
    run_passes(model, [RoundWeights()])
    return model


def kept(model: ir.Model) -> set[str]:
    return {n for n, method in facts.need(model, Rounding).methods.items() if method == "kept"}


def test_all_are_kept(folder: Path) -> None:
    source = load_source(folder)
    weights = {site.name: site.array() for site in find_sites(source.model)[0]}
    model = rounded(source)
    plan = facts.need(model, BitPlan).choices
    own = types_in_folder()
    assert {name: str(plan[name].type) for name in own} == own
    assert {plan[name].reason for name in own} == {KEPT}
    assert (plan["lm_head"].type, plan["lm_head"].reason) == (OTHERS, NO_EQUAL)
    assert kept(model) == set(own)
    held = model.graph.initializers
    for name, text in own.items():
        parts = [_array(held, f"{name}.{part}") for part in ("codes", "scale", "zero")]
        factor = _array(held, f"{name}.tensor_scale")
        whole = None if factor is None else np.float32(factor)
        codes, scale, zero = parts
        assert codes is not None and scale is not None
        found = dequantized(DType.parse(text), codes, scale, zero, whole)
        assert np.array_equal(found, weights[name]), name


def _array(held: Mapping[str, ir.Value], name: str) -> np.ndarray | None:
    tensor = held[name].const_value if name in held else None
    return None if tensor is None else tensor.numpy()


def test_a_type_that_is_asked_for_keeps_those_that_have_it(folder: Path) -> None:
    model = rounded(load_source(folder), type="int8:row")
    types = {str(choice.type) for choice in facts.need(model, BitPlan).choices.values()}
    assert types == {"int8:row"}
    assert kept(model) == {name for name, text in types_in_folder().items() if text == "int8:row"}


def test_a_rule_wins(folder: Path) -> None:
    model = rounded(load_source(folder), rules="*=int3:g64")
    assert {str(c.type) for c in facts.need(model, BitPlan).choices.values()} == {"int3:g64"}
    assert kept(model) == set()


def test_codes_that_no_longer_mean_the_weight_are_rounded(folder: Path) -> None:
    source = load_source(folder)
    (site,) = (s for s in find_sites(source.model)[0] if s.name.endswith("q_proj"))
    site.weight.const_value = ir.tensor(site.array() * 2)
    assert kept(rounded(source)) == set(types_in_folder()) - {site.name}


def logits(checkpoint: Folder | Gguf, tokens: list[int]) -> np.ndarray:
    """Of torch, with the values of the packed weights."""
    opened = read_model(checkpoint)
    model = type(opened.model)(opened.model.config)
    model.load_state_dict({n: torch.from_numpy(t.read()) for n, t in opened.stored.items()})
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([tokens])).logits[0].numpy()
    return found


@pytest.mark.kernels
def test_an_artifact_of_kept_codes(folder: Path, tmp_path: Path) -> None:
    options = CompileOptions(
        activation="fp32", keep=("lm_head", "embed"), context=32, chunk=8, target="x86-64",
        kv_type="fp32",
    )  # fmt: skip
    source = load_source(folder)
    planned = source_plan(source, options)
    report = compile_model(source, tmp_path / "a", options, planned).report
    said = {row["name"]: row.get("rounding") for row in report.sites}
    assert {name for name, method in said.items() if method == "kept"} == set(types_in_folder())
    tokens = list(range(3, 20))
    wanted, model = logits(Folder(folder), tokens), load(tmp_path / "a")
    assert isinstance(model, LanguageModel)
    found = model.feed(tokens)
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-5


@pytest.mark.kernels
def test_a_gguf_is_compiled_as_it_is_stored(cli: Any, tmp_path: Path) -> None:
    """Without a type or a budget: exactly as torch computes with the values that gguf decodes."""
    kinds = gguf.GGMLQuantizationType
    used = (kinds.Q4_0, kinds.Q4_1, kinds.Q5_0, kinds.Q5_1, kinds.Q8_0, kinds.Q4_1, kinds.Q5_1)
    names = [n for n in gguf_files.llama_tensors() if "norm" not in n and not n.startswith("token")]
    path = gguf_files.write(
        tmp_path / "m.gguf", kinds=dict(zip(names, (*used, kinds.Q8_0), strict=True))
    )
    words = ["compile", path, "-o", tmp_path / "a", "--context", 32, "--chunk", 8]
    ran = cli(*words, "--target", "x86-64", "--kv-type", "fp32", "--activation", "fp32",
              "--keep", "embed", "--json")  # fmt: skip
    assert ran.code == 0, ran
    report = ran.json
    said = {row["name"]: (row.get("rounding"), row["reason"]) for row in report["sites"]}
    assert said.pop("model.embed_tokens") == (None, "kept by --keep")
    assert set(said.values()) == {("kept", KEPT)}
    assert "the codes of the checkpoint are kept (--type source)" in report["notes"][0]
    tokens = list(range(3, 20))
    wanted, model = logits(Gguf.at(path), tokens), load(tmp_path / "a")
    assert isinstance(model, LanguageModel)
    found = model.feed(tokens)
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-5


def test_floats_have_no_codes_to_keep(cli: Any, tiny_folder: Path, tmp_path: Path) -> None:
    ran = cli("compile", tiny_folder, "-o", tmp_path / "a", "--type", "source")
    assert ran.code == 2
    assert (
        "stores its weights as floats, so there are no codes to keep; leave out --type" in ran.err
    )
    ran = cli("quantize", "m.onnx", tmp_path / "q.onnx", "--type", "source")
    assert ran.code == 2 and "an ONNX file has none: give a type, for example int4:g32" in ran.err
