"""Recipes of tiny models, which the tests of the benchmarks train in a second, and their text."""

from __future__ import annotations

from functools import cache

from benchmarks.trained_models.data import Corpus
from benchmarks.trained_models.recipes import COMMON, HYBRID, LLAMA, MAMBA, Recipe

PIECES = 300
TEXT = "The cat sat on the mat, and the dog lay by the door.\n" * 40
TINY = {"hidden_size": 64, "vocab_size": PIECES}
SMALL_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "mamba": COMMON | MAMBA | TINY | {"num_hidden_layers": 2},
    "hybrid": COMMON | HYBRID | TINY | SMALL_ATTENTION | {"num_hidden_layers": 3},
    "llama": COMMON | LLAMA | TINY | SMALL_ATTENTION | {"num_hidden_layers": 1},
}


def tiny(model: str, steps: int) -> Recipe:
    return Recipe(model, CONFIGS[model], steps, warm=2, windows=2, tokens=24)


@cache
def corpus() -> Corpus:
    return Corpus.of(TEXT, TEXT[:500], PIECES)
