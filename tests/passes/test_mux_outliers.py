"""The pass mux-outliers: what it finds, what it chooses, and that folding changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers as hf
from hybrid import TOKENS, VOCABULARY, Logits, falcon_h1, mamba, mamba2

import ladder
from ladder.calibrated.activations import collect_activations
from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.outliers import OutlierChoice, Outliers
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.runner import run_passes
from ladder.reference import Reference
from ladder.sensitivity.data import sample_data


def llama() -> Any:
    """Two query heads for each key head: value channels are tied."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = hf.LlamaConfig(hidden_size=32, intermediate_size=48, vocab_size=VOCABULARY, **shape)
    return hf.LlamaForCausalLM(config)


def gpt2() -> Any:
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4))


# Sites by the end of their names: those whose inputs can be divided, and some that cannot, why.
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
    return run_passes(model, [AllocateUniform("int8:row"), MuxOutliers(**options)])


def choices(model: ir.Model) -> dict[str, OutlierChoice]:
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
