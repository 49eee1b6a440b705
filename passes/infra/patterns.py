"""Patterns that name sites: ``lm_head``, ``*.down_proj``, or a role such as ``mlp.down``."""

from __future__ import annotations

import fnmatch

from ladder.errors import LadderError
from ladder.ir.activation import FLOAT
from ladder.ir.dtype import DType
from ladder.ir.site import Site


def matches(site: Site, pattern: str) -> bool:
    """Whether a pattern names the site, by its name or its role."""
    return any(fnmatch.fnmatchcase(text, pattern) for text in (site.name, site.role))


def check_pattern(option: str, pattern: str, sites: list[Site]) -> None:
    """Refuse a pattern that names nothing: it is a slip, and would be quiet."""
    if not any(matches(site, pattern) for site in sites):
        first = ", ".join(site.name for site in sites[:5]) or "none"
        raise LadderError(f"{option} '{pattern}' matches no site; the first sites are: {first}")


def parse_rules(rules: str) -> list[tuple[str, DType]]:
    """``pattern=type|pattern=type`` -> pairs, in order; a later rule wins."""
    pairs = []
    for rule in filter(None, rules.split("|")):
        pattern, equals, text = rule.partition("=")
        if not equals or not pattern or not text:
            raise LadderError(f"--rule '{rule}': write PATTERN=TYPE, for example lm_head=int8:row")
        dtype = DType.parse(text)
        if dtype.is_float and dtype.name != FLOAT:
            raise LadderError(f"--rule '{rule}': what stays float stays as it is; write fp32")
        pairs.append((pattern, dtype))
    return pairs
