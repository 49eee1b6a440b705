"""Windows of a text begin as the tokenizer begins a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ladder.calibration.text_windows import calibration
from ladder.calibration.texts import start_of_text, without_special
from ladder.errors import LadderError
from ladder.evaluation.evaluate import evaluate
from ladder.evaluation.scoring import _scored
from ladder.frontend.types import Source

LETTERS = "abcdefgh"
VOCABULARY = {"<s>": 0, "</s>": 1, **{letter: i + 2 for i, letter in enumerate(LETTERS)}}


def tokenizer(template: str) -> Tokenizer:
    """One token a letter, in ``template``."""
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="</s>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if template != "$A":
        special = [("<s>", 0), ("</s>", 1)]
        made.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return made


class Recorder:
    """A model that keeps the windows that it is fed; it expects the next letter."""

    context = 4

    def __init__(self) -> None:
        self.windows: list[list[int]] = []

    def reset(self) -> None: ...

    def feed(self, tokens: list[int]) -> np.ndarray:
        self.windows.append(tokens)
        logits = np.zeros((len(tokens), len(VOCABULARY)), np.float32)
        logits[np.arange(len(tokens)), [min(t + 1, len(VOCABULARY) - 1) for t in tokens]] = 50
        return logits


@pytest.mark.parametrize(
    ("template", "start"), [("$A", []), ("<s> $A", [0]), ("<s> $A </s>", [0]), ("$A </s>", [])]
)
def test_what_a_text_begins_with(template: str, start: list[int]) -> None:
    made = tokenizer(template)
    assert start_of_text(made) == start
    assert without_special(made, "ab") == [2, 3]


def test_every_window_begins_so() -> None:
    model = Recorder()
    score = _scored(model, tokenizer("<s> $A </s>"), LETTERS, 8, 4, None)
    assert model.windows == [[0, 2, 3, 4], [0, 5, 6, 7], [0, 8, 9]]
    assert score.notes == ["each window begins with <s>, as the tokenizer begins a text"]
    assert score.tokens == 8, "the first token of a window is predicted too"


def test_without_a_start_the_first_token_is_given() -> None:
    model = Recorder()
    score = _scored(model, tokenizer("$A"), LETTERS, 8, 4, None)
    assert model.windows == [[2, 3, 4, 5], [6, 7, 8, 9]] and score.notes == []
    assert score.tokens == 6 and score.perplexity == pytest.approx(1)


def test_a_window_has_room_for_a_token() -> None:
    with pytest.raises(LadderError, match="windows of 1 tokens: the tokenizer begins with 1"):
        evaluate(Recorder(), [2, 3], 1, start=[0])


def test_calibration_windows_begin_so(tmp_path: Path) -> None:
    model = ir.from_proto(graph("g (float[1] x) => (float[1] y) { y = Relu (x) }", {}))
    source = Source(model, "m", "d", tokenizer=tokenizer("<s> $A").to_str())
    text = tmp_path / "text.txt"
    text.write_text(LETTERS)
    assert calibration(source, text, 2, 4).tokens.tolist() == [[0, 2, 3, 4], [0, 7, 8, 9]]
