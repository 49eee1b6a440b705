"""How long a plan will take, about: said before the work begins."""

from __future__ import annotations

from ladder.frontend.types import Source
from ladder.ir.site import find_sites
from ladder.options.requests import PlanOptions
from ladder.passes.rounding.methods import find_method
from ladder.support.threads import own_threads

# Minutes for 135 M weights on two cores.
WEIGHTS, CORES = 135e6, 2
SCORES = 2.2  # of one type on 1024 tokens
TOKENS = 1024
HESSIANS = 0.7
ROUNDING, CALIBRATED_ROUNDING = 0.1, 0.4  # of one type


def minutes_of(source: Source, options: PlanOptions) -> float:
    """About how many minutes a plan takes where nothing is in the cache."""
    method = find_method(options.rounding)
    types, scored = len(options.types), options.windows * options.tokens / TOKENS
    long = options.windows * (options.long_tokens or options.tokens) / TOKENS
    minutes = types * scored * SCORES
    minutes += types * (CALIBRATED_ROUNDING if method.needs.hessians else ROUNDING)
    minutes += HESSIANS if method.needs.hessians else 0.0
    minutes += long * SCORES if options.long_tokens else 0.0
    minutes += options.refine * 2 * long * SCORES
    weights = sum(
        site.parameters for site in {id(s.weight): s for s in find_sites(source.model)[0]}.values()
    )
    return minutes * weights / WEIGHTS * CORES / max(own_threads(), 1)


def cost_text(source: Source, options: PlanOptions) -> str:
    """The estimate as a sentence; empty where it is no matter."""
    minutes = minutes_of(source, options)
    if minutes < 0.5:
        return ""
    unit = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
    return (
        f"about {unit} on {own_threads()} quiet cores, less what the cache has "
        f"(--effort {options.effort}: {options.windows} windows of {options.tokens} tokens, "
        f"{len(options.types)} types, {options.rounding})"
    )
