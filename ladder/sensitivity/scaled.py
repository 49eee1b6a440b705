"""Scores of many types on short windows, brought to the level of one type's on long windows.

What a site loses depends on how long the text before a token is, some sites more and some less
(docs/results/plans.md has numbers). But that ratio is nearly the same for all types of a site. So
long windows are measured in one type alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ladder.ir.dtype import DType
from ladder.ir.facts import Sensitivity

FURTHEST = 4.0  # of a site's factor, either way: losses of next to nothing are mostly noise
LARGE = (4096, 4096)  # a shape to compare types by


def level_type(types: Sequence[str]) -> str:
    """The type that is measured on long windows: the middle one by size, the smaller of two."""
    order = sorted(types, key=lambda type: DType.parse(type).stored_bits(*LARGE))
    return order[(len(order) - 1) // 2]


def scaled(found: Sensitivity, longer: Sensitivity, type: str) -> Sensitivity:
    """``found``, each site's metric times what ``type`` has in ``longer`` over what it has here."""
    metric, held = found.metric, 0
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for site, row in found.scores.items():
        factor, whole = _factor(row[type][metric], longer.scores[site][type][metric])
        rows[site] = {t: {**scores, metric: factor * scores[metric]} for t, scores in row.items()}
        held += not whole
    text = f"{found.text}, levels by {type} on {longer.tokens} tokens of it"
    if held:
        text += f" ({held} sites of next to no loss moved by {FURTHEST:g} at most)"
    return replace(found, scores=rows, text=text)


def _factor(short: float, long: float) -> tuple[float, bool]:
    """What to multiply by, and whether it is all of the ratio."""
    if short <= 0 or long <= 0:  # rounding errors of a loss that is none
        return 1.0, False
    factor = min(max(long / short, 1 / FURTHEST), FURTHEST)
    return factor, factor == long / short
