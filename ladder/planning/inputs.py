"""What a plan is made from: the model is fed windows of text, or samples of its inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ladder.calibration.data import Data, sample_data, text_data
from ladder.errors import LadderError
from ladder.frontend.load import Source
from ladder.ir.facts import Hessians, Sensitivity
from ladder.options.requests import PlanWish, SiteWish
from ladder.passes.allocation.parts import candidates
from ladder.sensitivity.measure import How, measure_data
from ladder.sensitivity.scaled import level_type, scaled

HINT = "give samples of its inputs by name with --calib FILE.npz"


def sensitivity_of(source: Source, wish: PlanWish, hessians: Hessians | None = None) -> Sensitivity:
    """Every site in every type; what a state file or the cache has is not measured again."""
    how, types = How(wish.workers, state=wish.state), candidates(wish.types)
    found = measure_data(source, types, data_of(source, wish), wish.rounding, how, hessians)
    if not wish.long_tokens:
        return found
    type = level_type(types)
    beside = wish.state and wish.state.with_name(f"{wish.state.name}.{wish.long_tokens}")
    how, long = replace(how, state=beside), long_data_of(source, wish)
    longer = measure_data(source, [type], long, wish.rounding, how, hessians)
    return scaled(found, longer, type)


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
