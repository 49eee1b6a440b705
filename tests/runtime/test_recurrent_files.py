"""Compiled recurrent models: any split of a text, resets, several models, another processor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from emulation import arm64, generate
from recurrent_graph import VOCABULARY, write_recurrent
from sources import ROOT

import ladder
import ladder.runtime
from ladder.frontend.load import load
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.recurrence import WKV_RESET
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.language_model import LanguageModel

pytestmark = pytest.mark.kernels
TYPE, CHUNK, CONTEXT, LENGTH = "int8:row", 16, 256, 200
TOKENS = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, LENGTH)]
SPLITS = [(LENGTH,), (1,) * LENGTH, (64, 1, 100, 35), (3, 16, 29, 152), (199, 1)]


def compiled(source: Source, folder: Path, target: str = "native") -> Path:
    ladder.compile(
        source, folder, target=target, type=TYPE, activation="fp32", kv_type="fp32",
        context=CONTEXT, chunk=CHUNK,
    )  # fmt: skip
    return folder


def opened(folder: Path) -> LanguageModel:
    model = ladder.runtime.load(folder)
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Two models with the same operators and other weights."""
    folder = tmp_path_factory.mktemp("recurrent")
    return [load(write_recurrent(folder / f"{seed}.onnx", seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def models(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> list[LanguageModel]:
    folder = tmp_path_factory.mktemp("artifacts")
    return [opened(compiled(source, folder / str(i))) for i, source in enumerate(sources)]


def reference(source: Source) -> np.ndarray:
    """Its logits under ONNX Runtime, all tokens at once."""
    model = run_passes(source.model.clone(), [AllocateUniform(DType.parse(TYPE)), RoundWeights()])
    return ReferenceLanguageModel(model, source.states, CONTEXT).feed(TOKENS)


def fed(model: LanguageModel, split: tuple[int, ...]) -> np.ndarray:
    """The logits of all tokens, from the beginning on."""
    model.reset()
    ends = np.cumsum(split)
    pieces = [TOKENS[end - size : end] for size, end in zip(split, ends, strict=True)]
    return np.concatenate([model.feed(piece, logits="all") for piece in pieces])


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def wanted(sources: list[Source]) -> np.ndarray:
    return reference(sources[0])


def test_states_of_a_file_have_their_own_reset_values(sources: list[Source]) -> None:
    resets = {state.name: state.reset for state in sources[0].states}
    assert resets.pop("state.3.wkv") == WKV_RESET
    assert set(resets.values()) == {0.0}


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: str(split[:3]))
def test_every_split_of_a_text_gives_the_same_logits(
    models: list[LanguageModel], wanted: np.ndarray, split: tuple[int, ...]
) -> None:
    assert same(fed(models[0], split), wanted)


def test_after_a_reset_the_same_text_gives_the_same_bits(models: list[LanguageModel]) -> None:
    first = fed(models[0], (150, 50))
    assert np.array_equal(fed(models[0], (150, 50)), first)


def test_two_models_do_not_disturb_each_other(models: list[LanguageModel]) -> None:
    alone = [fed(model, (90, 1, 1, 108)) for model in models]
    assert not same(alone[0], alone[1])
    for model in models:
        model.reset()
    together: list[list[np.ndarray]] = [[], []]
    for start, end in ((0, 90), (90, 91), (91, 92), (92, LENGTH)):
        for model, logits in zip(models, together, strict=True):
            logits.append(model.feed(TOKENS[start:end], logits="all"))
    for logits, wanted in zip(together, alone, strict=True):
        assert np.array_equal(np.concatenate(logits), wanted)


def test_states_are_changed_in_place(models: list[LanguageModel]) -> None:
    for name in ("decode", "prefill", "short"):
        function = models[0].session.function(name)
        outputs = dict(zip(function.outputs, function.call(), strict=True))
        for spec in models[0].states.specs:
            assert np.shares_memory(outputs[spec.next], models[0].states.buffers[spec.name])


def test_arm_gives_the_same_tokens(
    models: list[LanguageModel], sources: list[Source], tmp_path: Path
) -> None:
    prompt, count = TOKENS[:21], 12
    folder = compiled(sources[0], tmp_path / "arm", "armv8.0-neon")
    words = [generate.__file__, str(folder), json.dumps(prompt), str(count)]
    models[0].reset()
    assert json.loads(arm64.run_python("armv8.0", words, ROOT)) == list(
        models[0].stream(prompt, count)
    )
