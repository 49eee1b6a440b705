"""A GGUF file means to us what it means to llama.cpp: its own logits, kept in golden/."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_files import write_gemma
from llama_cpp import CASES, GOLDEN, TOKENS

from ladder.frontend.checkpoints import Gguf, read_model
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel

pytestmark = pytest.mark.models
# llama.cpp computes Gemma's GELU from a table in float16.
LIMITS = {"gemma 2": 1e-3}


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def logits(path: Path) -> np.ndarray:
    opened = read_model(Gguf.at(path))
    values = {name: torch.from_numpy(t.read()) for name, t in opened.stored.items()}
    opened.model.load_state_dict(values, strict=False, assign=True)
    with torch.no_grad():
        found: np.ndarray = opened.model(torch.from_numpy(TOKENS)[None]).logits[0].numpy()
    return found


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Of the worst token."""
    return float((np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max())


@pytest.mark.parametrize("name", CASES)
def test_the_logits_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    found = logits(CASES[name](tmp_path / "m.gguf"))
    assert error(found, golden()[name]) < LIMITS.get(name, 1e-5)


def test_a_trace_with_rope_factors_computes_what_llama_cpp_does(tmp_path: Path) -> None:
    source = load_source(CASES["llama, rope_freqs"](tmp_path / "m.gguf"))
    model = ReferenceLanguageModel(source.model, source.states, 64)
    assert error(model.feed(TOKENS.tolist()), golden()["llama, rope_freqs"]) < 1e-5


def test_what_the_files_differ_in_matters() -> None:
    """Else it could be lost, and the logits would be the same."""
    plain = golden()["llama"]
    for name in CASES:
        if name.startswith("llama,"):
            assert error(golden()[name], plain) > 0.1, name


@pytest.mark.parametrize(
    "key", ["attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"]
)
def test_the_window_and_each_cap_matter(key: str, tmp_path: Path) -> None:
    """The same file but for one number."""
    path = write_gemma(tmp_path / "m.gguf", **{key: 64 if "window" in key else 50.0})
    assert error(logits(path), golden()["gemma 2"]) > 0.05
