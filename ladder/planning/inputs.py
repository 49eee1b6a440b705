"""What a plan is made from: the model is fed windows of text, or samples of its inputs."""

from __future__ import annotations

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.source import Source
from ladder.ir.facts import Hessians, Sensitivity
from ladder.passes.allocation.parts import candidates
from ladder.sensitivity import How
from ladder.sensitivity.data import Data, sample_data, text_data
from ladder.sensitivity.measure import measure_data
from ladder.wish import PlanWish, SiteWish

HINT = "give samples of its inputs by name with --calib FILE.npz"


def sensitivity_of(source: Source, wish: PlanWish, hessians: Hessians | None = None) -> Sensitivity:
    """Every site in every type; what a state file or the cache has is not measured again."""
    how, types = How(wish.workers, state=wish.state), candidates(wish.types)
    return measure_data(source, types, data_of(source, wish), wish.rounding, how, hessians)


def data_of(source: Source, wish: SiteWish) -> Data:
    """What the model is fed for its sensitivity, once more for the whole plan."""
    samples = wish.calib is not None and wish.calib.suffix == ".npz"
    if source.is_language_model and not samples:
        return text_data(source, wish.calib, wish.windows, wish.tokens)
    return sample_data(source, _samples(source, wish), str(wish.calib))


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
