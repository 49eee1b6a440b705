"""Data to measure or to calibrate a model on: windows of a text, or samples of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.calibration.text_windows import calibration
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.states import StateSpec


@dataclass(frozen=True)
class Data:
    """The feeds of a model: windows by input name, each of ``tokens`` tokens.

    For a language model, whose output is logits, ``labels`` are the tokens that follow.
    """

    name: str
    digest: str
    feeds: list[dict[str, np.ndarray]]
    tokens: int
    labels: list[np.ndarray] | None = None


def text_data(source: Source, text: Path | None, windows: int, tokens: int) -> Data:
    """Windows of a text, or of the built-in text, for a language model."""
    if not source.is_language_model:
        raise LadderError(
            f"{source.origin}: not a language model, so text cannot be fed to it; "
            "measure it on samples of its inputs (measure_feeds)"
        )
    found = calibration(source, text, windows, tokens)
    feeds = [language_model_feeds(source.states, ids) for ids in found.tokens]
    labels = [ids[1:] for ids in found.tokens]
    return Data(found.name, _digest(found.tokens), feeds, found.tokens.shape[1], labels)


def sample_data(source: Source, samples: dict[str, np.ndarray], name: str) -> Data:
    """Samples of the inputs of any model: name -> [samples, *shape of the input]."""
    inputs = {v.name or "" for v in source.model.graph.inputs}
    if set(samples) != inputs or len({len(s) for s in samples.values()}) != 1:
        shapes = ", ".join(f"{name} {list(s.shape)}" for name, s in samples.items())
        raise LadderError(
            f"{source.origin}: the inputs are {', '.join(sorted(inputs))}, the samples {shapes}; "
            "give each input one array, all with the same number of samples"
        )
    count = len(next(iter(samples.values())))
    feeds = [{name: np.asarray(s[i]) for name, s in samples.items()} for i in range(count)]
    return Data(name, _digest(*(samples[name] for name in sorted(samples))), feeds, 1)


def language_model_feeds(states: Iterable[StateSpec], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Feeds for one window at the start of a text, with states as after a reset."""
    initial = {state.name: state.initial(len(ids)) for state in states}
    return {"input_ids": ids[None], "position": np.zeros(1, np.int64), **initial}


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
