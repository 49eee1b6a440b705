"""What reports say about outlier channels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx_ir as ir

from ladder.ir import facts
from ladder.ir.outliers import OutlierChoice, Outliers
from ladder.passes.muxing.remedies import NONE


def outlier_row(model: ir.Model, site: str) -> dict[str, Any]:
    """What a report says about a site's input; nothing if no remedy was asked for."""
    found = facts.get(model, Outliers)
    if found is None or not found.calibrated or site not in found.choices:
        return {}
    choice = found.choices[site]
    return {
        "outliers": choice.method,
        "outlier_channels": choice.channels,
        "outlier_reason": choice.reason,
        "outlier_errors": choice.errors,
        "outlier_refused": choice.refused,
    }


def outlier_notes(model: ir.Model) -> list[str]:
    """The number of products and the errors of each method, refusals, and the calibration text."""
    found = facts.get(model, Outliers)
    if found is None or not found.calibrated:
        return []
    tried = {name: c for name, c in found.choices.items() if c.errors}
    counts = Counter(choice.method for choice in tried.values())
    said = [
        f"outliers ({found.activation} activations): {method} at {count} of {len(tried)} products"
        f"{_errors([c for c in tried.values() if c.method == method])}"
        for method, count in counts.most_common()
    ]
    for (method, why), sites in _refused(tried).items():
        said.append(f"outliers: {method} is not possible at {_named(sites)}: {why}")
    texts = found.calibrated.items()
    return [*said, *(f"outliers were found on {count} tokens of {text}" for text, count in texts)]


def _errors(choices: list[OutlierChoice]) -> str:
    """The mean error of products before and after."""
    after = sum(c.errors[c.method] for c in choices) / len(choices)
    before = sum(c.errors[NONE] for c in choices) / len(choices)
    changed = f", {before:.4f} without" if choices[0].method != NONE else ""
    return f" (their mean error is {after:.4f}{changed})"


def _refused(tried: dict[str, OutlierChoice]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name, choice in tried.items():
        for method, why in choice.refused.items():
            found.setdefault((method, why), []).append(name)
    return found


def _named(sites: list[str]) -> str:
    return sites[0] if len(sites) == 1 else f"{len(sites)} products ({sites[0]}, ...)"
