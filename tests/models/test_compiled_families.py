"""Families of language models compute in an artifact what torch does, prefill and decode.

``benchmarks/compile_families.py`` does so for every family of ``families.py``.
"""

from __future__ import annotations

from pathlib import Path

import families
import pytest
from compiled_families import CHUNK, compile_family

from ladder.ir.states import ROWS, WINDOW
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
KINDS = {"Gemma 2": {ROWS, WINDOW}, "Mistral": {WINDOW}}


@pytest.mark.parametrize("name", families.COMPILED)
def test_a_family_in_an_artifact(name: str, tmp_path: Path) -> None:
    compiled = compile_family(name, tmp_path / "artifact")
    assert max(compiled.errors()) < 1e-4
    assert kinds(compiled.model) == KINDS.get(name, {ROWS})


def kinds(model: LanguageModel) -> set[str]:
    """How states are kept; windows have the rows of a window and of a call."""
    windows = [state for state in model.states.specs if state.kind == WINDOW]
    assert all(state.shape[2] == families.WINDOW + CHUNK for state in windows)
    return {state.kind for state in model.states.specs}
