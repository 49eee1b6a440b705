"""Rotary embeddings whose frequencies follow from the length of the text.

With a cache, keys stay rotated as they were when they came: a text would be computed differently
in one call and in several. A trace has the frequencies of short texts, and a longest text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GROWING = ("dynamic", "longrope")


def longest_text(config: Any) -> int | None:
    """The tokens up to which frequencies are those of short texts; None where they are fixed."""
    found = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (found, *found.values()) if isinstance(kind, dict)]
    growing = [kind for kind in kinds if kind.get("rope_type") in GROWING]
    return min((_length(kind, config.max_position_embeddings) for kind in growing), default=None)


def _length(kind: dict[str, Any], most: int) -> int:
    longrope = kind["rope_type"] == "longrope"
    return int(kind.get("original_max_position_embeddings") or most) if longrope else most


@contextmanager
def fixed_frequencies(model: Any) -> Iterator[None]:
    """Within the block no frequency of ``model`` depends on the text."""
    before = [(m, m.rope_type) for m in model.modules() if hasattr(m, "rope_type")]
    for module, kind in before:
        module.rope_type = _fixed(kind)
    try:
        yield
    finally:
        for module, kind in before:
            module.rope_type = kind


def _fixed(kind: Any) -> Any:
    if isinstance(kind, dict):  # of each kind of layer
        return {layer: _fixed(of_layer) for layer, of_layer in kind.items()}
    return "default" if kind in GROWING else kind
