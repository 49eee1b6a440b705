"""Learned weights as the fact PreRounded, kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import psutil

from ladder.blockwise.weights import Group, find_groups
from ladder.calibration.data import Data
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.ir.element import user_books
from ladder.ir.facts import PreRounded
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.methods import UNCALIBRATED, find_method
from ladder.passes.rounding.one_weight import Outcome, round_by
from ladder.passes.rounding.pre_rounded import load_outcome, save_outcome
from ladder.support import cache, entries

NAME = "learned"  # of the rounding method
INDEX = "index.json"
BYTES_EACH = 30  # per weight: latent, gradients, the optimizer's moments, copies in bfloat16


def learned_of(
    source: Source, data: Data, types: Mapping[str, DType], start: PreRounded
) -> PreRounded:
    """Train the weights of ``start`` (rounded to the types of a plan) end to end.

    The result comes from the cache if it is there. If the loss does not fall, it is ``start``.
    """
    about = (data.digest, user_books(), sorted(types.items()), sorted(start.files.values()))
    place = cache.entry("learned", source.digest, *about)
    if not entries.whole(place, INDEX):
        _learn(source, data, types, start, place)
    found = json.loads((place / INDEX).read_text())
    files = {site: str(place / file) for site, file in found["files"].items()}
    return PreRounded({**start.files, **files}, found["note"])


def check_learnable(source: Source, types: Mapping[str, DType]) -> None:
    """Refuse before any work: no torch, too little memory, or an unsupported operator."""
    _check_room([group for group in _groups(source) if group.name in types])
    try:
        import torch
    except ImportError as error:
        raise LadderError(
            f"rounding 'learned' needs torch ({error}); pip install 'ladder[hf]'"
        ) from None
    from ladder.calibration.learned.graph import Graph

    Graph(source.model, torch.float32)


def _groups(source: Source) -> list[Group]:
    return find_groups(source.model, find_blocks(source.model))


def _learn(
    source: Source, data: Data, types: Mapping[str, DType], start: PreRounded, place: Path
) -> None:
    from ladder.calibration.learned.latent import Latent  # imports torch, an optional extra
    from ladder.calibration.learned.train import Training

    groups = [group for group in _groups(source) if group.name in types]
    latents = {}
    for group in groups:
        site, dtype = group.sites[0], types[group.name]
        begun = _begun(group, dtype, start)
        latents[group.weight_name] = site, Latent(site.array(), dtype, begun)
    training = Training(source.model, data, latents, place)
    before = training.loss()
    training.run()
    after = training.loss()
    what = "KL" if data.labels is not None else "relative squared error"
    files: dict[str, str] = {}
    note = f"learned in {training.steps} steps of {training.batch} windows: {what} {before:.4g} "
    note += f"before, {after:.4g} after, on some of these windows; products in {training.precision}"
    if after < before:
        for number, group in enumerate(groups):
            with entries.put(place, f"{number}.npz") as aside:
                save_outcome(aside, Outcome(latents[group.weight_name][1].rounded(), NAME, {}))
            files.update({site.name: f"{number}.npz" for site in group.sites})
    else:
        note += f"; no improvement, so the weights are those of {_start()}"
    with entries.put(place, INDEX) as aside:
        aside.write_text(json.dumps({"files": files, "note": note}))
    training.forget()


def _begun(group: Group, dtype: DType, start: PreRounded) -> Rounded:
    """A weight before training; rounded by ``mse`` if it has no Hessian."""
    if group.name in start.files:
        return load_outcome(Path(start.files[group.name])).rounded
    return round_by(UNCALIBRATED, group.sites[0].array(), dtype).rounded


def _start() -> str:
    """The method whose weights training starts from."""
    start = find_method(NAME).start
    assert start is not None
    return start.method


def _check_room(groups: list[Group]) -> None:
    """Refuse a model that does not fit into memory."""
    weights = sum(group.sites[0].parameters for group in groups)
    needed, there = BYTES_EACH * weights, psutil.virtual_memory().available
    if needed > there:
        raise LadderError(
            f"rounding 'learned' needs about {needed / 1e9:.1f} GB for {weights / 1e6:.0f} M "
            f"weights, but only {there / 1e9:.1f} GB are free; use --rounding {_start()}"
        )
