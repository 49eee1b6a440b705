"""The remedies of one group: what each would leave of its products, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ladder.errors import LadderError
from ladder.ir.activation import QUANTIZED, STATIC
from ladder.ir.mux import Mux
from ladder.ir.numerics import F32
from ladder.ir.outliers import OutlierChoice
from ladder.passes.muxing import errors
from ladder.passes.muxing.find import I64, Rule, digits_for, ratio_of
from ladder.passes.muxing.fold import Edit, Folding, NotFoldableError
from ladder.passes.muxing.group import Group
from ladder.passes.muxing.smooth import smoothing

NONE, SMOOTH, MUXQ, DIGITS, AUTO = "none", "smooth", "muxq", "digits", "auto"
BY_COST = (NONE, SMOOTH, MUXQ, DIGITS)  # smooth costs nothing at run time, but changes the weights
METHODS = (AUTO, *BY_COST)
ENOUGH = 1.25  # times the error that rounded weights alone have
NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Remedy:
    """One remedy: the error of each site's products, and all there is to carry it out."""

    method: str
    errors: tuple[float, ...]
    scale: np.float32 | None = None  # of static codes
    mux: Mux | None = None
    channels: I64 = field(default_factory=lambda: NOBODY)
    edits: tuple[Edit, ...] = ()

    @property
    def error(self) -> float:
        """Of all sites together: the root of the mean square."""
        return _together(self.errors)


@dataclass(frozen=True)
class Options:
    """What the pass was asked."""

    mode: str
    rule: Rule
    muxq: Mux
    alpha: float
    tie: float


class Remedies:
    """Tries remedies on one group."""

    def __init__(self, group: Group, options: Options, folding: Folding) -> None:
        self._group, self._options, self._folding = group, options, folding
        self._weights = [site.array() for site in group.sites]
        pairs = zip(self._weights, group.types, strict=True)
        self._rounded = [errors.rounded_weight(w, dtype) for w, dtype in pairs]

    def choose(self, method: str) -> tuple[Remedy, list[OutlierChoice]]:
        """The remedy asked for, or the best one, and what there is to say of each site."""
        tried, refused = {NONE: self._remedy(NONE)}, {}
        for name in BY_COST[1:] if method == AUTO else (method,):
            if name != NONE:
                found = self._try(name)
                if isinstance(found, Remedy):
                    tried[name] = found
                else:
                    refused[name] = found
        if method == AUTO:
            best = min(tried.values(), key=lambda remedy: remedy.error)
            most = best.error * (1 + self._options.tie)
            chosen = next(tried[n] for n in BY_COST if n in tried and tried[n].error <= most)
            said = self._why(chosen, best)
        else:
            chosen = tried.get(method, tried[NONE])
            said = "asked for" if chosen.method == method else f"{method}: {refused[method]}"
        return chosen, self._told(chosen, tried, refused, said)

    def _why(self, chosen: Remedy, best: Remedy) -> str:
        if chosen is best:
            return "the least error of its products"
        tie = f"{100 * self._options.tie:g} %"
        return f"cheaper than {best.method}, and within {tie} of its error"

    def _told(
        self, chosen: Remedy, tried: dict[str, Remedy], refused: dict[str, str], said: str
    ) -> list[OutlierChoice]:
        if chosen.mux is not None:
            said = f"{len(chosen.channels)} outlier channels as {chosen.mux}: {said}"
        return [
            OutlierChoice(
                chosen.method,
                said,
                {name: remedy.errors[i] for name, remedy in tried.items()},
                refused,
                len(chosen.channels),
            )
            for i in range(len(self._group.sites))
        ]

    def _try(self, method: str) -> Remedy | str:
        """The remedy, or why it cannot be had here."""
        if self._group.refused:
            return self._group.refused
        if method == SMOOTH:
            try:
                return self._smooth()
            except NotFoldableError as error:
                return str(error)
        return self._muxed(method)

    def _muxed(self, method: str) -> Remedy | str:
        """With the fewest outliers that are enough; else those that tie with the least error.

        Enough is where rounding activations adds a quarter at most to what rounding weights costs.
        """
        group, found, why = self._group, [], self._none_found()
        pairs = zip(self._weights, self._rounded, strict=True)
        alone = [errors.product_error(group.x, w, group.x, rounded) for w, rounded in pairs]
        for channels in self._options.rule.sets(group.largest):
            mux = self._mux(method, channels)
            if not isinstance(mux, Mux):
                why = mux
                continue
            found.append(self._remedy(method, mux, channels))
            if found[-1].error <= ENOUGH * _together(alone):
                return found[-1]
        if not found:
            return why
        least = min(remedy.error for remedy in found)
        return next(r for r in found if r.error <= least * (1 + self._options.tie))

    def _mux(self, method: str, channels: I64) -> Mux | str:
        """How these channels are written at all sites, or why they cannot be."""
        group, mode, count = self._group, self._options.mode, len(channels)
        if count == group.k:
            return "every channel would be an outlier"
        mux = self._options.muxq
        if method == DIGITS:  # the site with the widest weights has the least room
            ratio = ratio_of(group.x, group.largest, channels, QUANTIZED[mode])
            ways = [digits_for(ratio, mode, t, group.k, count) for t in group.types]
            mux = min(ways, key=lambda way: way.reach)
        refused = [mux.refuse(mode, dtype, group.k, count) for dtype in group.types]
        return next((why for why in refused if why is not None), mux)

    def _none_found(self) -> str:
        rule = self._options.rule
        return f"no channel is over {rule.threshold:g}" + (
            " times the typical one" if rule.name == "relative" else ""
        )

    def _remedy(self, method: str, mux: Mux | None = None, channels: I64 = NOBODY) -> Remedy:
        group = self._group
        found = self._errors(group.x, group.largest, self._weights, self._rounded, channels, mux)
        return Remedy(method, found, self._scale(group.largest, channels, mux), mux, channels)

    def _smooth(self) -> Remedy:
        group = self._group
        readers = self._folding.readers(group.value)
        ties = self._folding.ties(group.value, group.k)
        arrays = [site.array() for site in readers]
        divisor = smoothing(group.largest, arrays, self._options.alpha, ties)
        edits = self._folding.edits(group.value, divisor)
        edits += [self._folding.multiplied(site, divisor) for site in readers]
        weights = [w * divisor for w in self._weights]
        pairs = zip(weights, group.types, strict=True)
        rounded = [errors.rounded_weight(w, dtype) for w, dtype in pairs]
        largest = group.largest / divisor
        found = self._errors(group.x / divisor, largest, weights, rounded, NOBODY, None)
        return Remedy(SMOOTH, found, self._scale(largest, NOBODY, None), edits=tuple(edits))

    def _scale(self, largest: F32, channels: I64, mux: Mux | None) -> np.float32 | None:
        mode = self._options.mode
        if QUANTIZED[mode].granularity != STATIC:
            return None
        return errors.static_scale(largest, mode, channels, mux)

    def _errors(
        self,
        x: F32,
        largest: F32,
        weights: Sequence[F32],
        rounded: Sequence[F32],
        channels: I64,
        mux: Mux | None,
    ) -> tuple[float, ...]:
        """Of each site; sites of one K-block read the same codes."""
        made: dict[str, F32] = {}
        found = []
        for weight, after, dtype in zip(weights, rounded, self._group.types, strict=True):
            if str(dtype) not in made:
                mode = self._options.mode
                made[str(dtype)] = errors.rounded_input(x, mode, dtype, largest, channels, mux)
            found.append(errors.product_error(x, weight, made[str(dtype)], after))
        return tuple(found)


def _together(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def check_remedy(method: str) -> None:
    """Refuse a method that is none."""
    if method not in METHODS:
        raise LadderError(f"unknown method '{method}' for outliers; one of: {', '.join(METHODS)}")
