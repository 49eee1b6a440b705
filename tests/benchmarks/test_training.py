"""The trainer of small models: a scan as transformers computes it, a training that resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_recipes import CONFIGS, PIECES, TEXT, corpus, tiny

from benchmarks.trained_models.data import batch
from benchmarks.trained_models.recipes import FAMILIES
from benchmarks.trained_models.texts import brown_text

pytestmark = pytest.mark.models


@pytest.mark.parametrize("model", ["mamba", "hybrid"])
def test_fast_scan_is_the_scan_of_transformers(model: str) -> None:
    """Logits and every gradient, over two chunks and a part of a third."""
    import torch

    from benchmarks.trained_models.scan import CHUNK, fast_scan

    torch.manual_seed(0)
    network = FAMILIES[model](CONFIGS[model])
    ids = torch.randint(0, PIECES, (2, 2 * CHUNK + 5))

    def logits_and_gradients() -> tuple[Any, dict[str, Any]]:
        network.zero_grad()
        found = network(input_ids=ids, labels=ids, use_cache=False)
        found.loss.backward()
        return found.logits.detach(), {n: p.grad.clone() for n, p in network.named_parameters()}

    expected, gradients = logits_and_gradients()
    with fast_scan(network):
        found, fast_gradients = logits_and_gradients()
    assert (found - expected).abs().max() < 1e-5
    for name, gradient in gradients.items():
        assert (fast_gradients[name] - gradient).norm() < 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("model", CONFIGS)
def test_few_steps_learn(model: str) -> None:
    """The saved folder is one of transformers, and predicts better than frequencies of tokens."""
    import json

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.trained_models.train import FACTS, trained

    folder = trained(tiny(model, 40), corpus())
    facts = json.loads((folder / FACTS).read_text())
    assert facts["tokens_seen"] == 40 * 2 * 24
    assert facts["held_out_perplexity"] < facts["unigram_perplexity"] / 2
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer(TEXT[:200])["input_ids"]])
    assert ids[0].tolist() == corpus().tokenizer.encode(TEXT[:200]).ids
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids, labels=ids).loss
    assert float(loss.exp()) < facts["unigram_perplexity"] / 2


def test_killed_training_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the weights of a training that was not killed."""
    import torch

    from benchmarks.trained_models.loop import Loop

    recipe = tiny("mamba", 6)
    whole = Loop(recipe, corpus().train, tmp_path / "whole").run().state_dict()
    killed = Loop(recipe, corpus().train, tmp_path / "killed", minutes=0)
    one_step = killed._one_step
    monkeypatch.setattr(killed, "_one_step", lambda: one_step() if killed.step < 4 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        killed.run()
    resumed = Loop(recipe, corpus().train, tmp_path / "killed")
    assert resumed.step == 4
    state = resumed.run().state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in whole.items())


def test_batches_of_a_step_are_the_same_again() -> None:
    tokens = np.arange(1000)
    first = batch(tokens, 3, 10, seed=0, step=7)
    assert first.shape == (3, 10)
    assert (np.diff(first) == 1).all()
    assert (first == batch(tokens, 3, 10, seed=0, step=7)).all()
    assert (first != batch(tokens, 3, 10, seed=0, step=8)).any()


def test_key_of_a_recipe() -> None:
    recipe = tiny("mamba", 6)
    assert recipe.folder() == tiny("mamba", 6).folder()
    assert recipe.folder() != replace(recipe, steps=7).folder()


def test_tags_of_the_corpus_are_removed(tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text(
        "\n\tHe/pps said/vbd ``/`` no/at ''/'' (/( and/cc more/ap )/) ,/, 1/2/cd ./.\n"
    )
    (tmp_path / "README").write_text("of the corpus")
    assert brown_text(tmp_path) == 'He said "no" (and more), 1/2.'
