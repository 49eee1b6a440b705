"""Single weights of a model in any type; each is rounded once, and its codes kept in a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ladder.blockwise.weights import Group, find_groups
from ladder.frontend.types import Source
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.ir.element import user_books
from ladder.ir.facts import Hessians
from ladder.passes.rounding.methods import find_method
from ladder.passes.rounding.pre_rounded import load_outcome, save_outcome
from ladder.support import cache, entries


class RoundedWeights:
    """Rounded weights that several plans of a model share.

    A weight is rounded for all sites that read it, even if only some of them are asked for.
    """

    def __init__(self, source: Source, rounding: str, hessians: Hessians | None) -> None:
        self._rounding, self._hessians = rounding, hessians
        groups = find_groups(source.model, find_blocks(source.model))
        self._whole = {group.weight_name: group for group in groups}
        calibrated = find_method(rounding).needs.hessians
        about = (hessians.text, hessians.tokens) if hessians and calibrated else ()
        self._folder = cache.entry("rounded", source.digest, rounding, user_books(), *about)

    def __call__(self, group: Group, dtype: DType) -> np.ndarray:
        """The weight after rounding to ``dtype`` and back, as the model stores it, float32."""
        whole = self._whole[group.weight_name]
        if dtype.is_float:
            return whole.rounded(dtype, self._rounding)
        name = _file(whole, dtype)
        if not entries.has(self._folder, name):
            with entries.put(self._folder, name) as aside:
                save_outcome(aside, whole.outcome(dtype, self._rounding, self._hessians))
        return whole.stored(load_outcome(self._folder / name).rounded, dtype)

    def files(self, types: Mapping[str, DType]) -> dict[str, str]:
        """Site -> file of the weights that were rounded before, for sites and their types.

        Weights that several sites read in different types are left out.
        """
        found: dict[str, str] = {}
        for group in self._whole.values():
            wanted = {types.get(site.name) for site in group.sites}
            dtype = wanted.pop()
            if wanted or dtype is None or dtype.is_float:
                continue
            name = _file(group, dtype)
            if entries.has(self._folder, name):
                found |= {site.name: str(self._folder / name) for site in group.sites}
        return found


def _file(group: Group, dtype: DType) -> str:
    return f"{group.name}.{dtype}.npz".replace("/", "-").replace(":", "-")
