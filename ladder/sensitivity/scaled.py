"""Scale the scores of many types on short windows by the scores of one type on long windows.

The loss of a site depends on the length of the text before a token, for some sites more than for
others (docs/results/plans.md has numbers). But for one site, the ratio of long to short windows is
nearly the same for all types. So long windows are measured with one type only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ladder.ir.dtype import DType
from ladder.ir.facts import Sensitivity

FURTHEST = 4.0  # limit of a site's factor and its inverse: very small losses are mostly noise
LARGE = (4096, 4096)  # a shape to compare the sizes of types with


def level_type(types: Sequence[str]) -> str:
    """The type for the long windows: the middle one by size, or the smaller of two."""
    order = sorted(types, key=lambda type: DType.parse(type).stored_bits(*LARGE))
    return order[(len(order) - 1) // 2]


def scaled(found: Sensitivity, longer: Sensitivity, type: str) -> Sensitivity:
    """``found`` with each site's metric times the ratio of ``longer`` to ``found`` for ``type``."""
    metric, held = found.metric, 0
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for site, row in found.scores.items():
        factor, whole = _factor(row[type][metric], longer.scores[site][type][metric])
        rows[site] = {t: {**scores, metric: factor * scores[metric]} for t, scores in row.items()}
        held += not whole
    text = f"{found.text}, scaled by {type} on {longer.tokens} tokens of it"
    if held:
        text += f" ({held} sites with very small losses scaled by {FURTHEST:g} at most)"
    return replace(found, scores=rows, text=text)


def _factor(short: float, long: float) -> tuple[float, bool]:
    """The factor, and whether it is the whole ratio."""
    if short <= 0 or long <= 0:  # rounding errors around a loss of zero
        return 1.0, False
    factor = min(max(long / short, 1 / FURTHEST), FURTHEST)
    return factor, factor == long / short
