"""A traced language model computes what torch does, or it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.errors import LadderError, one_line
from ladder.frontend.types import Expected, Source
from ladder.reference import ReferenceLanguageModel

LIMIT = 1e-4  # of the logits' norm
ALONE = 4  # tokens at the end that are also fed one by one


def check_trace(source: Source, path: Path) -> None:
    """Compare the model in the file ``path`` with the logits that torch gave for ``source``."""
    expected = source.expected
    if expected is None:
        return
    try:
        whole, last = _logits(source, path, expected)
    except Exception as error:
        raise LadderError(
            f"{source.origin}: ONNX Runtime cannot run the traced {expected.name}: "
            f"{one_line(error)}; this model is not supported"
        ) from error
    errors = _error(whole, expected.logits), _error(last, expected.logits[-ALONE:])
    if not max(errors) <= LIMIT:
        raise LadderError(
            f"{source.origin}: the traced {expected.name} does not compute what torch does: its "
            f"logits differ by {max(errors):.2g} of their norm, and {LIMIT:g} is allowed; this "
            "model is not supported"
        )


def _logits(source: Source, path: Path, expected: Expected) -> tuple[np.ndarray, np.ndarray]:
    """Of the whole text in one call, and of its end token by token."""
    rows = expected.start + len(expected.tokens)
    model = ReferenceLanguageModel(path, source.states, rows)
    whole = _begin(model, expected).feed(expected.tokens)
    _begin(model, expected).feed(expected.tokens[:-ALONE])
    return whole, np.stack([model.step(token) for token in expected.tokens[-ALONE:]])


def _begin(model: ReferenceLanguageModel, expected: Expected) -> ReferenceLanguageModel:
    """At the start of the text, after the rows that were given."""
    model.reset()
    for name, rows in expected.rows.items():
        model.states[name][:, :, : expected.start] = rows
    model.position = expected.start
    return model


def _error(logits: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))
