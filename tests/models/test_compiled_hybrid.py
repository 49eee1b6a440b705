"""A hybrid of attention and Mamba 2, traced from torch: any split of a text, and its context."""

from __future__ import annotations

import families
import numpy as np
import pytest

import ladder
import ladder.runtime
from ladder.errors import LadderError
from ladder.frontend.huggingface import trace_model
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.pipeline.phases import PREPARE
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
TYPE, CONTEXT, LENGTH = "int8:row", 208, 200
TOKENS = np.random.default_rng(1).integers(3, families.VOCABULARY, LENGTH).tolist()


@pytest.fixture(scope="module")
def source() -> Source:
    model = families.build(families.RIGHT["Falcon H1"]())
    traced = trace_model(model, {}, "hybrid", "a hybrid of Falcon H1")
    run_passes(traced.model, PREPARE)
    return traced


@pytest.fixture(scope="module")
def model(source: Source, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("hybrid") / "artifact"
    ladder.compile(
        source, folder, type=TYPE, activation="fp32", kv_type="fp32", context=CONTEXT, chunk=16
    )
    opened = ladder.runtime.load(folder)
    assert isinstance(opened, LanguageModel)
    return opened


@pytest.fixture(scope="module")
def wanted(source: Source) -> np.ndarray:
    """Its logits under ONNX Runtime, all tokens at once."""
    rounded = run_passes(source.model.clone(), [AllocateUniform(DType.parse(TYPE)), RoundWeights()])
    return ReferenceLanguageModel(rounded, source.states, CONTEXT).feed(TOKENS)


@pytest.mark.parametrize("lengths", [(LENGTH,), (1,) * LENGTH, (64, 1, 100, 35)], ids=len)
def test_every_split_of_a_text_gives_the_same_logits(
    model: LanguageModel, wanted: np.ndarray, lengths: tuple[int, ...]
) -> None:
    model.reset()
    ends = np.cumsum(lengths)
    pieces = [TOKENS[end - size : end] for size, end in zip(lengths, ends, strict=True)]
    found = np.concatenate([model.feed(piece, logits="all") for piece in pieces])
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_text_past_the_context_is_refused(model: LanguageModel) -> None:
    model.reset()
    model.feed(TOKENS)
    with pytest.raises(LadderError, match=f"209 tokens do not fit the context of {CONTEXT}"):
        model.feed(TOKENS[:9])
