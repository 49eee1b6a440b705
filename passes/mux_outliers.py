"""Outlier channels of activations: found in calibration, written so that integers hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.activation import QUANTIZED, STATIC, check
from ladder.ir.facts import BitPlan, MuxedSite, Muxing, StaticScales
from ladder.ir.outliers import Activations, OutlierChoice, Outliers
from ladder.ir.site import find_sites
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.muxing.find import RELATIVE, Rule, muxq
from ladder.passes.muxing.fold import Folding
from ladder.passes.muxing.group import groups_of
from ladder.passes.muxing.remedies import AUTO, NONE, Options, Remedies, check_remedy
from ladder.support.progress import track


@dataclass(frozen=True)
class MuxOutliers(Pass):
    """Choose a remedy for the outlier channels of the input of every product, if it has some.

    ``method`` is ``digits`` (outliers in digits of one step), ``muxq`` (the paper's form, divided
    by 2^``exponent``), ``smooth`` (folded into what makes the input, ``alpha``), ``none``, or
    ``auto``: for each input the method with the least error of its products on calibration tokens,
    times the square of the work; of those within ``tie`` of the least the cheapest, in the order
    none, smooth, digits, muxq. ``activation`` is the mode that products will run in. A channel is
    an outlier if it exceeds ``threshold`` times the typical one (``rule=relative``), or
    ``threshold`` itself (``rule=absolute``; the paper has 6). At most the share ``most`` of all
    are outliers. With ``tails`` all channels are written in digits if that is worth the work.

    Needs the facts BitPlan and Activations; adds Muxing and StaticScales for lower-types, and
    Outliers, which says what was chosen and why. Sites that read one value get one remedy.

        %n = RMSNormalization(%x, %g); %y = MatMul(%n, %w)                          smooth
          -->  %n = RMSNormalization(%x, %g / s); %y = MatMul(%n, %w * s)
    """

    method: str = AUTO
    activation: str = "int8"
    rule: str = RELATIVE
    threshold: float = 3.0
    most: float = 0.1
    tails: bool = True
    exponent: int = 2
    alpha: float = 0.5
    tie: float = 0.05
    needs: ClassVar[Facts] = (BitPlan,)
    gives: ClassVar[Facts] = (Muxing, StaticScales, Outliers)

    def run(self, model: ir.Model) -> None:
        options = self._options()
        known, plan = facts.get(model, Activations), facts.get(model, BitPlan)
        assert plan is not None
        calibrated = {known.text: known.tokens} if known else {}
        facts.drop(model, Activations)  # files of this machine, useless in a saved model
        kind = QUANTIZED.get(options.mode)
        if kind is None or (self.method == NONE and kind.granularity != STATIC):
            why = "not asked for" if kind else f"{options.mode} activations have no integer codes"
            _put(model, Outliers(_none(plan.choices, why), options.mode, calibrated), {}, {})
            return
        if known is None:
            raise LadderError(
                "outliers are found on calibration data, which a single pass does not have: use "
                "'ladder compile' or 'quantize' with --outliers"
            )
        groups, alone = groups_of(model, plan, known)
        choices = {name: OutlierChoice(NONE, why) for name, why in alone.items()}
        muxed: dict[str, MuxedSite] = {}
        scales: dict[str, float] = {}
        folding = Folding(find_sites(model)[0])
        for group in track(groups, "look for outliers"):
            remedy, chosen = Remedies(group, options, folding).choose(self.method)
            for edit in remedy.edits:
                edit()
            for site, choice in zip(group.sites, chosen, strict=True):
                choices[site.name] = choice
                if remedy.scale is not None:
                    scales[site.name] = float(remedy.scale)
                if remedy.mux is not None:
                    channels = tuple(int(c) for c in remedy.channels)
                    muxed[site.name] = MuxedSite(str(remedy.mux), channels, choice.reason)

        _put(model, Outliers(choices, options.mode, calibrated), muxed, scales)

    def _options(self) -> Options:
        check_remedy(self.method)
        rule = Rule(self.rule, self.threshold, self.most, self.tails)
        for name in ("alpha", "tie"):
            if not 0 <= getattr(self, name) <= 1:
                raise LadderError(f"{name} {getattr(self, name):g}: give a number from 0 to 1")
        return Options(check(self.activation), rule, muxq(self.exponent), self.alpha, self.tie)


def _none(names: Iterable[str], why: str) -> dict[str, OutlierChoice]:
    return {name: OutlierChoice(NONE, why) for name in names}


def _put(
    model: ir.Model, chosen: Outliers, muxed: dict[str, MuxedSite], scales: dict[str, float]
) -> None:
    for fact in (chosen, Muxing(muxed), StaticScales(scales)):
        facts.put(model, fact)
