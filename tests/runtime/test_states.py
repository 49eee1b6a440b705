"""The states of a running model are reset, rewound and copied, and padding never changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hybrid_graph import VOCABULARY, write_hybrid

import ladder
import ladder.runtime
from ladder.errors import LadderError
from ladder.frontend.load import load
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.states import RECURRENT, ROWS, WINDOW, StateSpec
from ladder.options.requests import CompileOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.pipeline.functions import functions_of
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.bench import bench_artifact
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.states import States

TYPE, CONTEXT, CHUNK = "int8:row", 64, 8
KEY = StateSpec("key", (1, 1, "context", 4), "float32", ROWS, 2)
RING = StateSpec("ring", (1, 1, 3, 4), "float32", WINDOW, 2)
SUM = StateSpec("sum", (1, 4), "float32", RECURRENT, reset=0.5)


def states(*specs: StateSpec) -> States:
    """States with room for ten tokens; rows are filled as by a call."""
    return States(specs, {spec.name: spec.initial(10) for spec in specs})


def test_reset_keeps_rows_and_fills_replaced_states() -> None:
    held = states(KEY, SUM)
    held.buffers["key"][...] = 3
    held.advance(4, {"sum.next": np.full((1, 4), 7, np.float32)})
    assert held.position == 4 and (held.buffers["sum"] == 7).all()
    held.reset()
    assert held.position == 0
    assert (held.buffers["sum"] == 0.5).all() and (held.buffers["key"] == 3).all()


def test_rows_rewind_to_an_earlier_position() -> None:
    held = states(KEY)
    held.advance(6, {})
    held.rewind(6)
    held.rewind(2)
    assert held.position == 2
    for place in (3, -1):
        with pytest.raises(LadderError, match=f"cannot rewind to {place}: 2 tokens are held"):
            held.rewind(place)


@pytest.mark.parametrize(("spec", "kind"), [(RING, "window"), (SUM, "recurrent")])
def test_states_without_earlier_text_do_not_rewind(spec: StateSpec, kind: str) -> None:
    held = states(KEY, spec)
    held.advance(2, {"sum.next": np.zeros((1, 4), np.float32)})
    held.rewind(2)
    with pytest.raises(LadderError, match=f"state '{spec.name}' is {kind} and .* take a snapshot"):
        held.rewind(1)
    assert held.position == 2 and not held.take_padding(2)


def test_a_snapshot_is_restored_whatever_was_fed_since() -> None:
    held = states(KEY, RING, SUM)
    held.buffers["key"][:, :, :2], held.buffers["ring"][...] = 1, 2
    held.advance(2, {"sum.next": np.full((1, 4), 3, np.float32)})
    before = held.snapshot()
    held.reset()
    held.buffers["key"][...], held.buffers["ring"][...] = 8, 8
    held.advance(5, {"sum.next": np.full((1, 4), 8, np.float32)})
    held.restore(before)
    assert held.position == 2
    assert (held.buffers["key"][:, :, :2] == 1).all() and (held.buffers["ring"] == 2).all()
    assert (held.buffers["sum"] == 3).all()


def test_a_function_that_takes_another_state_is_refused() -> None:
    message = r"state 'key' is float32 \[1, 1, 'context', 4\], but its function takes "
    for given, takes in ({}, "nothing"), ({"key": np.zeros((2, 4))}, r"float64 \[2, 4\]"):
        with pytest.raises(LadderError, match=message + takes):
            States([KEY], given)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return load(write_hybrid(tmp_path_factory.mktemp("hybrid") / "hybrid.onnx"))


@pytest.fixture(scope="module")
def artifact(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "hybrid"
    options: Any = {"type": TYPE, "activation": "fp32", "kv_type": "fp32"}
    ladder.compile(source, folder, context=CONTEXT, chunk=CHUNK, **options)
    return folder


@pytest.fixture(scope="module")
def hybrid(artifact: Path) -> LanguageModel:
    model = ladder.runtime.load(artifact)
    assert isinstance(model, LanguageModel)
    return model


TOKENS = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, 29)]


@pytest.fixture(scope="module")
def wanted(source: Source) -> np.ndarray:
    """Its logits under ONNX Runtime, all tokens at once."""
    model = run_passes(source.model.clone(), [AllocateUniform(DType.parse(TYPE)), RoundWeights()])
    return ReferenceLanguageModel(model, source.states, CONTEXT).feed(TOKENS)


def same(got: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max())


@pytest.mark.kernels
@pytest.mark.parametrize("split", [(29,), (16, 13), (8, 1, 20), (3, 5, 21), (1,) * 29])
def test_every_split_of_a_text_gives_the_same_logits(
    hybrid: LanguageModel, wanted: np.ndarray, split: tuple[int, ...]
) -> None:
    """A padded tail would be added to the running sum."""
    hybrid.reset()
    ends = np.cumsum(split)
    pieces = [TOKENS[end - size : end] for size, end in zip(split, ends, strict=True)]
    assert same(np.concatenate([hybrid.feed(piece) for piece in pieces]), wanted)
    assert hybrid.position == len(TOKENS)


@pytest.mark.kernels
def test_after_a_reset_the_same_text_gives_the_same_bits(hybrid: LanguageModel) -> None:
    hybrid.reset()
    first = hybrid.feed(TOKENS)
    hybrid.reset()
    assert np.array_equal(hybrid.feed(TOKENS), first)


@pytest.mark.kernels
def test_a_model_resumes_from_a_snapshot(hybrid: LanguageModel, wanted: np.ndarray) -> None:
    hybrid.reset()
    hybrid.feed(TOKENS[:11])
    before = hybrid.snapshot()
    with pytest.raises(LadderError, match=r"state 'state\.0\.sum' is recurrent and holds no earl"):
        hybrid.rewind(5)
    for other in ([5, 6, 7], TOKENS[:20]):
        hybrid.feed(other)
        hybrid.restore(before)
        assert hybrid.position == 11
        assert same(hybrid.feed(TOKENS[11:]), wanted[11:])
    hybrid.reset()


@pytest.mark.kernels
def test_a_hybrid_model_is_timed(artifact: Path) -> None:
    timed = bench_artifact(artifact, 20)
    assert timed["context"] == 20 and timed["decode_tokens_per_s"] > 0


@pytest.mark.models
@pytest.mark.kernels
def test_rows_rewind_in_an_artifact(tiny_artifact: Path) -> None:
    model = ladder.runtime.load(tiny_artifact)
    assert isinstance(model, LanguageModel)
    model.feed([1, 2, 3, 4, 5, 6])
    wanted = model.step(7)
    model.rewind(3)
    model.feed([9, 9])
    model.rewind(3)
    model.feed([4, 5, 6])
    assert np.array_equal(model.step(7), wanted)


@pytest.mark.models
@pytest.mark.kernels
@pytest.mark.parametrize("name", ["tiny_artifact", "artifact"])
def test_only_the_logits_that_are_asked_for(name: str, request: pytest.FixtureRequest) -> None:
    model = ladder.runtime.load(request.getfixturevalue(name))
    assert isinstance(model, LanguageModel)
    for text in (TOKENS, TOKENS[:1], TOKENS[:CHUNK]):
        model.reset()
        whole = model.feed(text)
        model.reset()
        assert np.array_equal(model.feed(text, logits="last"), whole[-1:])
        model.reset()
        assert model.feed(text[:-1] or text, logits=None).shape == (0, model.vocabulary)
        model.reset()
        assert np.array_equal(model.feed(text, "all"), whole)
    with pytest.raises(LadderError, match="logits='first': give 'all', 'last' or None"):
        model.feed(TOKENS, "first")


@pytest.mark.models
def test_a_scale_of_all_tokens_keeps_their_logits_together(tiny_chat_folder: Path) -> None:
    """With one scale for a call's tokens, none of them is computed alone."""
    source = load_source(tiny_chat_folder)
    model = run_passes(source.model.clone(), [AllocateUniform(DType.parse(TYPE)), RoundWeights()])
    for activation, names in (
        ("int8:tensor", ["decode", "prefill"]),
        ("int8:token", ["decode", "prefill", "last", "all"]),
    ):
        options = CompileOptions(activation=activation, context=CONTEXT, chunk=CHUNK)
        assert [name for name, *_ in functions_of(model, source, options)] == names
