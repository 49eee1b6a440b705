"""Every family of language models is right or refused in one line; none is silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import models_page
import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import WhisperConfig

from ladder.errors import LadderError
from ladder.frontend import attention
from ladder.frontend.carried import Carried
from ladder.frontend.huggingface import trace_model
from ladder.frontend.language_model import implementations, plain
from ladder.frontend.load import load
from ladder.frontend.positions import longest_text
from ladder.frontend.replacements import attention_blocks, minimax, recurrent_gemma, rwkv
from ladder.frontend.replacements.scans import gated_delta_rule
from ladder.frontend.traced_cache import TracedCache
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.compile import compile_model
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.trace_check import check_trace
from ladder.reference import ReferenceLanguageModel

pytestmark = pytest.mark.models
TOKENS = 45  # several windows, and past the length that scaled rotary embeddings began with


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def text() -> list[int]:
    tokens: list[int] = np.random.default_rng(1).integers(3, families.VOCABULARY, TOKENS).tolist()
    return tokens


def logits_of(model: torch.nn.Module) -> np.ndarray:
    """By torch, without a cache."""
    with torch.no_grad(), implementations(model, *plain(model)):
        logits: np.ndarray = model(torch.tensor([text()]), use_cache=False).logits[0].numpy()
    return logits


def checked(model: torch.nn.Module, folder: Path) -> ReferenceLanguageModel:
    """Traced, prepared and compared with torch, as when a model is loaded."""
    source = trace_model(model, {}, "tiny", "digest")
    run_passes(source.model, PREPARE)
    path = folder / "model.onnx"
    ir.save(source.model, path)
    check_trace(source, path)
    return ReferenceLanguageModel(path, source.states, families.POSITIONS, threads=1)


def error(logits: list[np.ndarray], wanted: np.ndarray) -> float:
    return float(np.linalg.norm(np.concatenate(logits) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", families.RIGHT)
def test_a_family_that_is_right(name: str, tmp_path: Path) -> None:
    """In one chunk, and in two with the last tokens one by one."""
    model, tokens = families.build(families.RIGHT[name]()), text()
    traced, wanted = checked(model, tmp_path), logits_of(model)
    assert error([traced.feed(tokens)], wanted) < 1e-4
    traced.reset()
    chunks = [tokens[:19], tokens[19:40], *([token] for token in tokens[40:])]
    assert error([traced.feed(chunk) for chunk in chunks], wanted) < 1e-4


@pytest.mark.parametrize("name", families.REFUSED)
def test_a_family_that_is_refused(name: str, tmp_path: Path) -> None:
    configuration, reason = families.REFUSED[name]
    with pytest.raises(LadderError, match=reason) as refused:
        checked(families.build(configuration()), tmp_path)
    assert len(str(refused.value).splitlines()) == 1 and "\x1b" not in str(refused.value)


@pytest.mark.parametrize("window", [families.WINDOW, 4096])
def test_a_lost_window_is_noticed(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer has the mask of full attention; the window may be longer than the text."""
    from transformers.masking_utils import causal_mask_function

    def full(**options: Any) -> Any:
        return plain(**{**options, "mask_function": causal_mask_function})

    plain = attention.mask
    monkeypatch.setattr(attention, "mask", full)
    options = {"sliding_window": window, "max_position_embeddings": 2 * window + families.POSITIONS}
    model = families.build(families.config("Mistral", families.GROUPED, options))
    with pytest.raises(
        LadderError, match=r"traced MistralForCausalLM does not compute .* differ by"
    ):
        checked(model, tmp_path)


def test_a_lost_state_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call is right without it: only the same text in several calls is not."""
    plain = Carried.put
    monkeypatch.setattr(Carried, "put", lambda self, name, after: plain(self, name, after * 0))
    with pytest.raises(LadderError, match=r"traced MambaForCausalLM does not compute .* differ by"):
        checked(families.build(families.RIGHT["Mamba"]()), tmp_path)


def test_an_unknown_keyword_of_the_cache_is_refused_by_name() -> None:
    key = torch.zeros(1, 2, 4, 8)
    with pytest.raises(LadderError, match="layer 3 updates its keys and values with 'cos'"):
        TracedCache().update(key, key, 3, cos=key)
    with pytest.raises(LadderError, match="layer 3 updates its keys and values with 'dict'"):
        TracedCache().update(key, key, 3, {"cos": key})
    with pytest.raises(LadderError, match="a gated delta rule is called with 'reverse'"):
        gated_delta_rule(key, key, key, key, key, reverse=True)


REPLACED: list[tuple[Callable[..., Any], int]] = [  # and how many arguments they have
    (minimax.lightning_attention, 2),
    (rwkv.attention, 2),
    (rwkv.feed_forward, 2),
    (recurrent_gemma.recurrent_block, 3),
    (recurrent_gemma.scan, 4),
    (attention_blocks.biased, 3),
]


@pytest.mark.parametrize(("function", "count"), REPLACED)
def test_a_replaced_function_refuses_an_unknown_keyword(
    function: Callable[..., Any], count: int
) -> None:
    with pytest.raises(LadderError, match="is called with 'reverse', which the IR cannot express"):
        function(*[None] * count, reverse=True)


@pytest.mark.parametrize("name", ["Llama, rope dynamic", "Phi 3, rope longrope"])
def test_a_context_in_which_positions_are_scaled_differently(name: str, tmp_path: Path) -> None:
    given = [ir.val(name, ir.DataType.INT64, [1, 1]) for name in ("input_ids", "position")]
    source = Source(ir.Model(ir.Graph(given, [], nodes=[]), ir_version=10), name, "digest")
    source.longest = longest_text(families.RIGHT[name]())
    assert source.longest == families.POSITIONS
    with pytest.raises(LadderError, match=f"texts of more than {families.POSITIONS} tokens"):
        compile_model(source, tmp_path / "artifact", CompileOptions(context=families.POSITIONS + 1))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    """Transformers would take its decoder for a causal model, and lose what the encoder says."""
    WhisperConfig().save_pretrained(tmp_path)
    with pytest.raises(LadderError, match=r"whisper is an encoder-decoder, .* torch modules"):
        load(tmp_path)


def test_an_unknown_keyword_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Layer:
        layer_idx = 3

    q, seen = torch.zeros(1, 2, 4, 8), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(
        LadderError, match="attention of Layer of layer 3 is called with 'position_bias'"
    ):
        attention.attention(Layer(), q, q, q, seen, position_bias=seen)
    with pytest.raises(LadderError, match="Layer of layer 3 attends without a mask"):
        attention.attention(Layer(), q, q, q, None)


def test_the_page_is_that_of_these_families() -> None:
    """``python tests/models_page.py`` writes it anew."""
    text = models_page.PAGE.read_text(encoding="utf-8")
    assert models_page.page_with(models_page.table(), text) == text
