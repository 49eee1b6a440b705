"""Patterns of sites: ``lm_head``, ``*.down_proj``, roles (``mlp.down``), operators (``Conv``)."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ladder.errors import LadderError
from ladder.ir.activation import FLOAT
from ladder.ir.dtype import DType

if TYPE_CHECKING:
    from ladder.ir.site import Site


def matches(site: Site, pattern: str) -> bool:
    """Whether a pattern names the site, by its name, its role or its operator."""
    texts = (site.name, site.role, site.node.op_type)
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts)


def check_pattern(option: str, pattern: str, sites: list[Site]) -> None:
    """Refuse a pattern that matches nothing: it is a mistake that would go unnoticed."""
    if not any(matches(site, pattern) for site in sites):
        first = ", ".join(site.name for site in sites[:5]) or "none"
        raise LadderError(f"{option} '{pattern}' matches no site; the first sites are: {first}")


@dataclass(frozen=True)
class Rule:
    """The type of the sites that match a pattern; a later rule wins."""

    pattern: str
    type: DType

    @staticmethod
    def parse(text: str) -> Rule:
        """Read ``PATTERN=TYPE``; ``fp32`` leaves the sites as they are."""
        pattern, equals, type = text.partition("=")
        if not equals or not pattern or not type:
            raise LadderError(f"--rule '{text}': write PATTERN=TYPE, for example lm_head=int8:row")
        dtype = DType.parse(type)
        if dtype.is_float and dtype.name != FLOAT:
            raise LadderError(
                f"--rule '{text}': float weights are not converted; write fp32 to keep them"
            )
        return Rule(pattern, dtype)

    def __str__(self) -> str:
        return f"{self.pattern}={self.type}"
