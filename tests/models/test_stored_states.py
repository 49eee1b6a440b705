"""Keys and values in fewer bits: the artifact computes what the rewritten graph does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import CHUNK, CONTEXT, VOCABULARY

import ladder
import ladder.runtime
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.passes.store_states import StoreStates, stored_states
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
TYPE = "int8:row"
TOKENS = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, 50)]
# Bytes of the keys of a layer: two heads of 16, and the scales of codes.
BYTES = {"fp16": 2 * (CONTEXT + CHUNK) * 32, "int8": 2 * (CONTEXT + CHUNK) * (16 + 4)}
STORED = {"fp16": "float16", "int8": "int8"}


def compiled(folder: Path, target: Path, kv_type: str) -> LanguageModel:
    ladder.compile(
        folder, target, type=TYPE, activation="fp32", context=CONTEXT, chunk=CHUNK, kv_type=kv_type
    )
    model = ladder.runtime.load(target)
    assert isinstance(model, LanguageModel)
    return model


@pytest.mark.parametrize("kv_type", BYTES)
def test_an_artifact_stores_rounded_rows(
    kv_type: str, tiny_chat_folder: Path, tmp_path: Path
) -> None:
    source = load_source(tiny_chat_folder)
    passes = [AllocateUniform(DType.parse(TYPE)), RoundWeights(), StoreStates(kv_type)]
    graph = run_passes(source.model.clone(), passes)
    specs = stored_states(graph, source.states)
    assert {spec.dtype for spec in specs if not spec.name.endswith("scale")} == {STORED[kv_type]}
    wanted = ReferenceLanguageModel(graph, specs, CONTEXT, threads=1).feed(TOKENS)
    model = compiled(tiny_chat_folder, tmp_path / "artifact", kv_type)
    logits = np.concatenate([model.feed(TOKENS[:40]), *(model.feed([t]) for t in TOKENS[40:])])
    assert np.abs(logits - wanted).max() < 1e-3 * np.abs(wanted).max()
    held = {name: array.nbytes for name, array in model.states.buffers.items()}
    assert sum(n for name, n in held.items() if name.startswith("state.0.key")) == BYTES[kv_type]
    before = model.snapshot()
    step = model.step(5)
    model.restore(before)
    assert np.array_equal(model.step(5), step)


def test_an_unknown_type_is_refused(tiny_chat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="keys and values have no type 'int4'; one of: fp32, fp"):
        compiled(tiny_chat_folder, tmp_path / "artifact", "int4")
