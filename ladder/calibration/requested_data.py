"""The calibration data that options ask for: windows of a text, or samples of the inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ladder.calibration.data import Data, sample_data, text_data
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.options.requests import PlanWish, SiteWish

HINT = "give samples of its inputs by name with --calib FILE.npz"


def long_data_of(source: Source, wish: PlanWish) -> Data:
    """What whole plans are run on: long windows where they are asked for."""
    if not wish.long_tokens:
        return data_of(source, wish)
    if not source.is_language_model or _is_samples(wish):
        raise LadderError(
            f"{source.origin}: --long-tokens {wish.long_tokens}: samples have no length; "
            "it is for language models and text"
        )
    return data_of(source, replace(wish, tokens=wish.long_tokens))


def data_of(source: Source, wish: SiteWish) -> Data:
    """What the model is fed for its sensitivity, once more for the whole plan."""
    if source.is_language_model and not _is_samples(wish):
        return text_data(source, wish.calib, wish.windows, wish.tokens)
    return sample_data(source, _samples(source, wish), str(wish.calib))


def _is_samples(wish: SiteWish) -> bool:
    return wish.calib is not None and wish.calib.suffix == ".npz"


def _samples(source: Source, wish: SiteWish) -> dict[str, np.ndarray]:
    """Inputs by name, one sample a row, of a model that text cannot be fed to."""
    if wish.calib is None:
        raise LadderError(f"{source.origin}: not a language model: {HINT}")
    if not wish.calib.is_file():
        raise LadderError(f"{wish.calib}: no such file; {HINT}")
    try:
        samples = dict(np.load(wish.calib))
    except (ValueError, OSError) as error:
        raise LadderError(f"{wish.calib}: not an NPZ file; {HINT}") from error
    if not samples or any(array.ndim == 0 or len(array) == 0 for array in samples.values()):
        raise LadderError(f"{wish.calib}: holds no samples; {HINT}")
    return samples
