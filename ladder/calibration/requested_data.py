"""The calibration data that options ask for: windows of a text, or samples of the inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ladder.calibration.data import Data, sample_data, text_data
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.options.requests import PlanOptions
from ladder.options.sites import SiteOptions
from ladder.support.arrays import read_npz

HINT = "give samples of its inputs by name with --calib FILE.npz"


def long_data_of(source: Source, options: PlanOptions) -> Data:
    """The data that whole plans are run on: long windows if the options ask for them."""
    if not options.long_tokens:
        return data_of(source, options)
    if not source.is_language_model or _is_samples(options):
        raise LadderError(
            f"{source.origin}: --long-tokens {options.long_tokens} is for language models and "
            "text; leave it out for samples of inputs"
        )
    return data_of(source, replace(options, tokens=options.long_tokens))


def data_of(source: Source, options: SiteOptions) -> Data:
    """The data for measuring sensitivity and for calibration."""
    if source.is_language_model and not _is_samples(options):
        return text_data(source, options.calib, options.windows, options.tokens)
    return sample_data(source, _samples(source, options), str(options.calib))


def _is_samples(options: SiteOptions) -> bool:
    return options.calib is not None and options.calib.suffix == ".npz"


def _samples(source: Source, options: SiteOptions) -> dict[str, np.ndarray]:
    """Samples of the inputs, by name, of a model that does not read text."""
    if options.calib is None:
        raise LadderError(f"{source.origin}: not a language model: {HINT}")
    samples = read_npz(options.calib, HINT)
    if not samples or any(array.ndim == 0 or len(array) == 0 for array in samples.values()):
        raise LadderError(f"{options.calib}: holds no samples; {HINT}")
    return samples
