"""Families of language models compute in an artifact what torch does, prefill and decode.

Weights lie on the grid of int8:row, so that rounding changes none of them.
"""

from __future__ import annotations

from pathlib import Path

import families
import numpy as np
import pytest
import torch

import ladder
import ladder.runtime
from ladder.frontend.huggingface import trace_model
from ladder.frontend.language_model import implementations, plain
from ladder.ir.states import ROWS, WINDOW
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
STEPS, LARGEST, CHUNK = 256, 127, 16
KINDS = {"Gemma 2": {ROWS, WINDOW}, "Mistral": {WINDOW}}


def on_grid(model: torch.nn.Module) -> torch.nn.Module:
    """The model with codes / 256 as weights; every row and column has a code of 127."""
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            codes = (weight * STEPS).round().clamp(-LARGEST, LARGEST)
            rows, columns = codes.shape[-2:]
            places = torch.arange(max(rows, columns))
            codes[..., places % rows, places % columns] = LARGEST
            weight.copy_(codes / STEPS)
    return model


@pytest.mark.parametrize("name", families.COMPILED)
def test_a_family_in_an_artifact(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = on_grid(families.build(families.RIGHT[name]()))
    text = np.random.default_rng(1).integers(3, families.VOCABULARY, 45).tolist()
    with torch.no_grad(), implementations(model, *plain(model)):
        wanted = model(torch.tensor([text]), use_cache=False).logits[0].numpy()
    source = trace_model(model, {}, name, f"on the grid of int8: {name}")
    run_passes(source.model, PREPARE)
    ladder.compile(
        source,
        tmp_path / "artifact",
        type="int8:row",
        rounding="rtn",
        activation="fp32",
        kv_type="fp32",
        context=families.POSITIONS,
        chunk=CHUNK,
    )
    compiled = ladder.runtime.load(tmp_path / "artifact")
    assert isinstance(compiled, LanguageModel)
    pieces = [text[:19], text[19:40], *([token] for token in text[40:])]
    logits = np.concatenate([compiled.feed(piece) for piece in pieces])
    assert same(logits, wanted)
    assert kinds(compiled) == KINDS.get(name, {ROWS})
    compiled.reset()
    assert same(compiled.feed(text, "last"), wanted[-1:])


def same(logits: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.linalg.norm(logits - wanted) < 1e-4 * np.linalg.norm(wanted))


def kinds(model: LanguageModel) -> set[str]:
    """How states are kept; windows have the rows of a window and of a call."""
    windows = [state for state in model.states.specs if state.kind == WINDOW]
    assert all(state.shape[2] == families.WINDOW + CHUNK for state in windows)
    return {state.kind for state in model.states.specs}
