"""The types that kernel libraries are built for and that are timed."""

from __future__ import annotations

from ladder.ir.dtype import ALIASES, DType
from ladder.ir.element import ELEMENTS


def all_types() -> list[DType]:
    """Every element in groups of 128, and the aliases."""
    plain = [f"{e.name}:g128{'' if e.signed else ':zp'}" for e in ELEMENTS.values()]
    return [DType.parse(text) for text in (*plain, *ALIASES)]
