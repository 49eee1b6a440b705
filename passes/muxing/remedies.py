"""The remedies of one group: the error of its products under each, and the choice among them."""

from __future__ import annotations

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
BY_COST = (NONE, SMOOTH, DIGITS, MUXQ)  # smooth costs nothing at run time, but changes the weights
METHODS = (AUTO, *BY_COST)
ENOUGH = 1.25  # times the error of rounding the weights alone
NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Remedy:
    """One remedy: the error of each site's product, and what is needed to apply it."""

    method: str
    errors: tuple[float, ...]
    k: int
    scale: np.float32 | None = None  # of static codes
    mux: Mux | None = None
    channels: I64 = field(default_factory=lambda: NOBODY)
    edits: tuple[Edit, ...] = ()

    @property
    def error(self) -> float:
        """The error over all sites: the root mean square."""
        return errors.together(self.errors)

    @property
    def price(self) -> float:
        """The error times the square of the work: double the work must gain two bits."""
        more = self.mux.digits * len(self.channels) / self.k if self.mux else 0.0
        return self.error * (1 + more) ** 2


@dataclass(frozen=True)
class Options:
    """The options of the pass."""

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
        self._products = errors.Products(group.x, self._weights, group.types)

    def choose(self, method: str) -> tuple[Remedy, list[OutlierChoice]]:
        """The remedy asked for, or the best one, and what is reported for each site."""
        tried = {NONE: self._remedy(NONE)}
        refused: dict[str, str] = {}
        if method == AUTO:
            chosen, said = self._best(tried, refused)
        else:
            self._add(method, tried, refused)
            chosen = tried.get(method, tried[NONE])
            said = "asked for" if chosen.method == method else f"{method}: {refused[method]}"
        return chosen, self._reported(chosen, tried, refused, said)

    def _best(self, tried: dict[str, Remedy], refused: dict[str, str]) -> tuple[Remedy, str]:
        """The method with the least price, or a cheaper one that ties with it; and why."""
        within, tie = 1 + self._options.tie, f"{100 * self._options.tie:g} %"
        if tried[NONE].error <= within * self._products.alone:
            return tried[NONE], f"within {tie} of the error of rounding the weights alone"
        for name in BY_COST:
            self._add(name, tried, refused)
        best = min(tried.values(), key=lambda remedy: remedy.price)
        least = best.price * within
        chosen = next(tried[n] for n in BY_COST if n in tried and tried[n].price <= least)
        if chosen is best:
            return chosen, "the least error for the work"
        return chosen, f"cheaper than {best.method}, and within {tie} of its error"

    def _add(self, method: str, tried: dict[str, Remedy], refused: dict[str, str]) -> None:
        """Try a method, and keep the remedy or the refusal."""
        if method in tried:
            return
        found = self._try(method)
        if isinstance(found, Remedy):
            tried[method] = found
        else:
            refused[method] = found

    def _reported(
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
        """The remedy, or why it is not possible here."""
        if self._group.refused:
            return self._group.refused
        if method == SMOOTH:
            try:
                return self._smooth()
            except NotFoldableError as error:
                return str(error)
        return self._muxed(method)

    def _muxed(self, method: str) -> Remedy | str:
        """The remedy with the fewest outliers that are enough, or else that of the least price.

        They are enough if rounding activations adds at most a quarter to the error of the weights.
        """
        found, why = [], self._none_found()
        for channels in self._options.rule.sets(self._group.largest):
            mux = self._mux(method, channels)
            if not isinstance(mux, Mux):
                why = mux
                continue
            found.append(self._remedy(method, mux, channels))
            some = len(channels) < self._group.k  # all channels must be worth it, too
            if some and found[-1].error <= ENOUGH * self._products.alone:
                return found[-1]
        return min(found, key=lambda remedy: remedy.price, default=why)

    def _mux(self, method: str, channels: I64) -> Mux | str:
        """How these channels are written at all sites, or why that is not possible."""
        group, mode, count = self._group, self._options.mode, len(channels)
        if count == group.k and method == MUXQ:
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
        found = self._errors(self._products, group.x, group.largest, channels, mux)
        scale = self._scale(group.largest, channels, mux)
        return Remedy(method, found, group.k, scale, mux, channels)

    def _smooth(self) -> Remedy:
        group = self._group
        readers = self._folding.readers(group.value)
        ties = self._folding.ties(group.value, group.k)
        arrays = [site.array() for site in readers]
        divisor = smoothing(group.largest, arrays, self._options.alpha, ties)
        edits = self._folding.edits(group.value, divisor)
        edits += [self._folding.multiplied(site, divisor) for site in readers]
        x, largest = group.x / divisor, group.largest / divisor
        products = errors.Products(x, [w * divisor for w in self._weights], group.types)
        found = self._errors(products, x, largest, NOBODY, None)
        scale = self._scale(largest, NOBODY, None)
        return Remedy(SMOOTH, found, group.k, scale, edits=tuple(edits))

    def _scale(self, largest: F32, channels: I64, mux: Mux | None) -> np.float32 | None:
        mode = self._options.mode
        if QUANTIZED[mode].granularity != STATIC:
            return None
        return errors.static_scale(largest, mode, channels, mux)

    def _errors(
        self, products: errors.Products, x: F32, largest: F32, channels: I64, mux: Mux | None
    ) -> tuple[float, ...]:
        """The error of each site; sites of one type read the same codes."""
        made: dict[str, F32] = {}
        for dtype in self._group.types:
            if str(dtype) not in made:
                mode = self._options.mode
                made[str(dtype)] = errors.rounded_input(x, mode, dtype, largest, channels, mux)
        types = enumerate(self._group.types)
        return tuple(products.error(site, made[str(dtype)]) for site, dtype in types)


def check_remedy(method: str) -> None:
    """Refuse an unknown method."""
    if method not in METHODS:
        raise LadderError(f"unknown method '{method}' for outliers; one of: {', '.join(METHODS)}")
