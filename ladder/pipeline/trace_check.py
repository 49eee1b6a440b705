"""A traced language model computes what torch does, or it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.errors import LadderError, one_line
from ladder.frontend.types import Expected, Source
from ladder.reference import ReferenceLanguageModel

LIMIT = 1e-4  # of the logits' norm
ALONE = 4  # tokens at the end that are also fed one by one
PARTS = (1, 2, 7)  # tokens of the first calls; what is between them and the end is one call


def check_trace(source: Source, path: Path) -> None:
    """Compare the model in the file ``path`` with the logits that torch gave for ``source``."""
    expected = source.expected
    if expected is None:
        return
    try:
        model = ReferenceLanguageModel(path, source.states, expected.start + len(expected.tokens))
        errors = [_error(run(model, expected), expected.logits) for run in (_whole, _split)]
    except Exception as error:
        raise LadderError(
            f"{source.origin}: ONNX Runtime cannot run the traced {expected.name}: "
            f"{one_line(error)}; this model is not supported"
        ) from error
    if not max(errors) <= LIMIT:
        raise LadderError(
            f"{source.origin}: the traced {expected.name} does not compute what torch does: its "
            f"logits differ by {max(errors):.2g} of their norm, and {LIMIT:g} is allowed; this "
            "model is not supported"
        )


def _whole(model: ReferenceLanguageModel, expected: Expected) -> np.ndarray:
    """The logits of the whole text in one call."""
    return _begin(model, expected).feed(expected.tokens)


def _split(model: ReferenceLanguageModel, expected: Expected) -> np.ndarray:
    """The same after a reset, in calls of several lengths and the end token by token."""
    length = len(expected.tokens)
    ends = {*np.cumsum(PARTS).tolist(), *range(length - ALONE, length)}
    pieces = np.split(np.array(expected.tokens), sorted(ends))
    _begin(model, expected)
    return np.concatenate([model.feed(piece.tolist()) for piece in pieces if len(piece)])


def _begin(model: ReferenceLanguageModel, expected: Expected) -> ReferenceLanguageModel:
    """At the start of the text, after the rows that were given."""
    model.reset()
    for name, rows in expected.rows.items():
        model.states[name][:, :, : expected.start] = rows
    model.position = expected.start
    return model


def _error(logits: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))
