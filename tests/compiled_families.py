"""A family of language models in an artifact, and what torch computes: for tests and a sweep.

Weights lie on the grid of int8:row, so that rounding changes none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import families
import numpy as np
import torch

import ladder
import ladder.runtime
from ladder.frontend.huggingface import trace_model
from ladder.frontend.language_model import implementations, plain
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.runtime.language_model import LanguageModel

STEPS, LARGEST, CHUNK = 256, 127, 16
TEXT: list[int] = np.random.default_rng(1).integers(3, families.VOCABULARY, 45).tolist()
PIECES = [TEXT[:19], TEXT[19:40], *([token] for token in TEXT[40:])]


@dataclass(frozen=True)
class Compiled:
    """An artifact of a family, and the logits of ``TEXT`` by torch, [tokens, vocabulary]."""

    model: LanguageModel
    wanted: np.ndarray

    def errors(self) -> tuple[float, float]:
        """Relative to torch's logits: of all tokens in pieces, then of the last one alone."""
        self.model.reset()
        pieces = np.concatenate([self.model.feed(piece) for piece in PIECES])
        self.model.reset()
        last = self.model.feed(TEXT, "last")
        return distance(pieces, self.wanted), distance(last, self.wanted[-1:])


def compile_family(name: str, folder: Path) -> Compiled:
    """The family ``name`` of ``families.RIGHT`` in float arithmetic, written to ``folder``."""
    torch.set_num_threads(1)
    model = on_grid(families.build(families.RIGHT[name]()))
    with torch.no_grad(), implementations(model, *plain(model)):
        wanted = model(torch.tensor([TEXT]), use_cache=False).logits[0].numpy()
    source = trace_model(model, {}, name, f"on the grid of int8: {name}")
    run_passes(source.model, PREPARE)
    ladder.compile(
        source,
        folder,
        type="int8:row",
        rounding="rtn",
        activation="fp32",
        kv_type="fp32",
        context=families.POSITIONS,
        chunk=CHUNK,
    )
    compiled = ladder.runtime.load(folder)
    assert isinstance(compiled, LanguageModel)
    return Compiled(compiled, wanted)


def on_grid(model: torch.nn.Module) -> torch.nn.Module:
    """The model with codes / 256 as weights; every row and column has a code of 127."""
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            codes = (weight * STEPS).round().clamp(-LARGEST, LARGEST)
            rows, columns = codes.shape[-2:]
            places = torch.arange(max(rows, columns))
            codes[..., places % rows, places % columns] = LARGEST
            weight.copy_(codes / STEPS)
    return model


def distance(logits: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))
