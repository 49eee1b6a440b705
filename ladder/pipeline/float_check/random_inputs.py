"""Random inputs of a model: the same for the same model, valid for its operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.shapes import static_shape

Arrays = Mapping[str, np.ndarray]
# Where operators treat numbers specially: signs, ties of rounding, large and small ones.
EDGES = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 10.0, -10.0, 1e-6)
# Lowest and highest whole numbers, tried in this order until no index is outside its axis.
RANGES = ((0, 100), (0, 10), (0, 2), (0, 1))
SIGNED = ((-8, 100), (-8, 8), (-2, 2), *RANGES)


@dataclass(frozen=True)
class Run:
    """Inputs and outputs of a model, by name."""

    feeds: Arrays
    outputs: Arrays


def random_runs(model: ir.Model, run: Callable[[Arrays], Arrays], given: Arrays) -> list[Run]:
    """Two runs: one on random numbers, one with edge values. Inputs in ``given`` are as there.

    Raises what ``run`` raises where it takes no such inputs.
    """
    return [_first_valid(model, run, given, edges) for edges in (False, True)]


def _first_valid(
    model: ir.Model, run: Callable[[Arrays], Arrays], given: Arrays, edges: bool
) -> Run:
    failure: Exception | None = None
    for feeds in _candidates(model, given, edges):
        try:
            return Run(feeds, run(feeds))
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _candidates(model: ir.Model, given: Arrays, edges: bool) -> Iterator[Arrays]:
    inputs = [v for v in model.graph.inputs if v.name not in given]
    _refuse_unknown(inputs)
    whole = any(_numpy_type(value).kind in "iu" for value in inputs)
    for low, high in (SIGNED if edges else RANGES) if whole else RANGES[:1]:
        random = np.random.default_rng(int(edges))
        made = {v.name or "": _array(v, random, edges, low, high) for v in inputs}
        yield {**made, **given}


def _refuse_unknown(inputs: Sequence[ir.Value]) -> None:
    for value in inputs:
        if value.dtype is None or static_shape(value) is None:
            raise LadderError(f"the type or the shape of input '{value.name}' is not known")
        if _numpy_type(value).kind not in "biufV":
            raise LadderError(f"input '{value.name}' holds no numbers")


def _numpy_type(value: ir.Value) -> np.dtype[np.generic]:
    assert value.dtype is not None
    return np.dtype(value.dtype.numpy())


def _array(
    value: ir.Value, random: np.random.Generator, edges: bool, low: int, high: int
) -> np.ndarray:
    shape, kind = static_shape(value), _numpy_type(value)
    assert shape is not None
    if kind.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if kind.kind in "iu":
        return np.asarray(random.integers(0 if kind.kind == "u" else low, high, shape), kind)
    numbers = np.asarray(random.standard_normal(shape))
    if edges:
        numbers = np.where(random.random(shape) < 0.5, random.choice(EDGES, shape), numbers)
    return numbers.astype(kind)
