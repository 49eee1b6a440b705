"""Trains a small language model on texts that packages hold, and keeps it in Ladder's cache.

    python -m benchmarks.trained_models.train --model mamba|hybrid|llama

Prints the folder, an ordinary one of Hugging Face. A killed training resumes at its last
checkpoint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.trained_models.data import Corpus
from benchmarks.trained_models.loop import Loop, perplexity
from benchmarks.trained_models.recipes import RECIPES, Recipe, recipe
from benchmarks.trained_models.vocabulary import save_tokenizer
from ladder.support import entries

FACTS = "training.json"


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    folder = trained(recipe(options.model, options.steps))
    print((folder / FACTS).read_text())
    print(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--steps", type=int, default=0, help="another number of steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def trained(recipe: Recipe, corpus: Corpus | None = None) -> Path:
    """The folder of the trained model, which is trained if it is not in the cache."""
    folder = recipe.folder()
    if entries.whole_folder(folder):
        return folder
    corpus = corpus or Corpus.of_packages(recipe.config["vocab_size"])
    loop = Loop(recipe, corpus.train, folder.with_name(f"{folder.name}-checkpoint"))
    network = loop.run()
    with entries.new_entry(folder) as aside:
        network.save_pretrained(aside)
        save_tokenizer(corpus.tokenizer, aside)
        facts = _facts(recipe, network, corpus, loop.cpu_seconds)
        (aside / FACTS).write_text(json.dumps(facts, indent=1))
    loop.remove_checkpoint()
    return folder


def _facts(
    recipe: Recipe, network: torch.nn.Module, corpus: Corpus, seconds: float
) -> dict[str, float]:
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": recipe.steps,
        "tokens_seen": recipe.steps * recipe.windows * recipe.tokens,
        "tokens_of_text": len(corpus.train),
        "cpu_seconds": round(seconds),
        "held_out_perplexity": perplexity(network, corpus.held_out, recipe.tokens),
        "unigram_perplexity": corpus.unigram_perplexity(),
    }


if __name__ == "__main__":
    main()
